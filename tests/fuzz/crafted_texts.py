"""Job files and checkpoints that someone wrote to do harm; the facts of a checkpoint are signed anew."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.fuzz.crafted import MARKER
from tests.fuzz.mutations import BORDERS, TEXT, Mutation, several

VALUES: list[Any] = [
    None, True, -1, 0, 2**31, 2**40, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "\ud800",
    "x" * 10_000, "\0", "~nobody-here/x", "../../x", "/dev/zero", "a/" * 3000, [], {}, [[]], [-1], [2**62, 2**62], [0],
    {"a": {}}, [None],
]  # fmt: skip
"""What may stand where some value of a job or of a checkpoint stood."""


def large_job(content: bytes, random: Random) -> bytes:
    """A job file with something enormous or deep in it."""
    residual = '{ type = "residual", layers = [' * 400 + '{ type = "flatten" }' + "] }" * 400
    options = "[" * 400 + "]" * 400
    additions = (
        b"a = " + b"[" * 100_000,
        b"a = " + b"[" * 90 + b"]" * 90,
        b"a" + b".a" * 50_000 + b" = 1",
        b"[" + b"a." * 30_000 + b"a]",
        b"a = " + b"9" * 100_000,
        b"a = 0x" + b"f" * 100_000,
        b'a = """' + b"x" * 1_000_000,
        b"".join(b"k%d = 1\n" % i for i in range(20_000)),
        b"# " + b"x" * 20_000_000,
        f"[model]\nlayers = [{residual}]\n".encode(),
        f'[model]\nentry = "a:b"\noptions = {{ a = {options} }}\n'.encode(),
        b"[data]\nsource = 'csv'\npath = '" + b"a/" * 3000 + b"'\ntargets = [0]\n",
    )
    return random.choice((content, b"")) + b"\n" + random.choice(additions)


def _changed(value: Any, random: Random) -> Any:
    """Return `value` with one part of it, at any depth, replaced or taken out."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        if random.random() < 0.15:
            return {other: value[other] for other in value if other != key}
        return {**value, key: _changed(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        place = random.randrange(len(value))
        return [*value[:place], _changed(value[place], random), *value[place + 1 :]]
    return random.choice(VALUES)


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and data of a safetensors file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def changed_header(content: bytes, random: Random) -> bytes:
    """A checkpoint with something else in the header of its container."""
    header, data = _parts(content)
    name = random.choice(list(header))
    if name != "__metadata__" and random.random() < 0.6:
        entry = header[name]
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        changes: list[dict[str, Any]] = [
            {"dtype": random.choice(("BF16", "F8_E4M3", "F8_E5M2", "F4", "I64", "C64", "BOOL", "U8", "x"))},
            {"shape": random.choice(([], [0], [-1], [size], [1] * 70, [2**32, 2**32], [2**63], [2**64], [1.5], None))},
            {"data_offsets": random.choice(([0, 2**63], [2**64, 0], [-1, 4], [8, 4], [0, 0], [0], None, [0, size, 4]))},
            {"dtype": "U8", "shape": [size]},
        ]
        header[name] = {**entry, **random.choice(changes)}
    else:
        header = _changed(header, random)
    text = json.dumps(header).encode()
    lengths = [len(text)] * 8 + random.sample(BORDERS, 1)
    return struct.pack("<Q", random.choice(lengths)) + text + data


def _signed(content: bytes, random: Random, change: Any) -> bytes:
    """Return the checkpoint after ``change(tensors, facts) -> (tensors, facts)``, with sound hashes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.safetensors"
        path.write_bytes(content)
        checkpoint = load_checkpoint(path)
        tensors, facts = change(dict(checkpoint.tensors), json.loads(json.dumps(checkpoint.facts)))
        try:
            save_checkpoint(path, Checkpoint(tensors, facts))
        except (ValueError, UnicodeError):  # what can't be written, as a lone surrogate
            return changed_header(content, random)
        return path.read_bytes()


def changed_facts(content: bytes, random: Random) -> bytes:
    """A checkpoint with other facts, and the hash that goes with them."""

    def change(tensors: Any, facts: Any) -> Any:
        for _ in range(random.choice((1, 1, 2))):
            facts = _changed(facts, random)
        return tensors, facts

    return _signed(content, random, change)


def deep_facts(content: bytes, random: Random) -> bytes:
    """A checkpoint whose facts are huge, deep, or a model without bound."""

    def change(tensors: Any, facts: Any) -> Any:
        nested: Any = []
        for _ in range(500):
            nested = [nested]
        layers = facts["job"]["model"]["layers"]
        wide = {**layers[-1], "units": random.choice((2**31, 2**40, 2**50, 2**62))}
        kind = random.randrange(4)
        if kind == 0:
            facts["callbacks"] = nested
        elif kind == 1:
            facts["input_shape"] = random.choice(
                ([2**40], [2**31, 2**31], [2**62, 2**62], [0], [-8, 8], [8.0, 8], [1] * 70)
            )
        elif kind == 2:
            facts["job"]["model"]["layers"] = [layers[0], wide, layers[-1]]
        else:
            facts["job"]["model"] = {"layers": [], "entry": "logging:basicConfig", "options": {"filename": MARKER}}
        return tensors, facts

    return _signed(content, random, change)


def changed_tensors(content: bytes, random: Random) -> bytes:
    """A checkpoint whose arrays are missing, or of other shapes, types or values, and the hash that goes with them."""

    def change(tensors: Any, facts: Any) -> Any:
        name = random.choice(list(tensors))
        array = tensors.pop(name)
        shapes = (array.reshape(-1)[:-1], array[:0], array[None]) if array.ndim else (np.zeros((2, 2)),)
        others = (*shapes, array.astype(np.float64), array.astype(np.uint8), array * np.nan)
        if random.random() < 0.8:
            tensors[random.choice((name, name, name, "x", "model/", "scaling/shift"))] = random.choice(others)
        return tensors, facts

    return _signed(content, random, change)


CRAFTED_TEXTS: dict[str, list[Mutation]] = {
    "job": [large_job, *[several(TEXT)] * 3],
    "checkpoint": [changed_header, changed_facts, changed_facts, deep_facts, changed_tensors],
}
"""Writers of hostile job files and checkpoints, from sound ones."""
