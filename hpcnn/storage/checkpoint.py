"""Checkpoints: one safetensors file of arrays, with everything else as JSON in its header. Never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.atomic import atomic_path
from hpcnn.errors import CheckpointError

FORMAT = "hpcnn-1"


@dataclass(frozen=True)
class Checkpoint:
    """Arrays by name, as ``model/dense_1/kernel``, and facts that JSON can hold."""

    tensors: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]
    content_sha256: str = ""
    """Of the file that it was read from."""

    def part(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return the arrays under ``prefix/``, by the rest of their names."""
        start = len(prefix) + 1
        return {name[start:]: array for name, array in self.tensors.items() if name.startswith(prefix + "/")}


def prefixed(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return `arrays` under ``prefix/``: the reverse of `Checkpoint.part`."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _content_sha256(tensors: Mapping[str, NDArray[Any]], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\n{name} {array.dtype.name} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, whole or not at all."""
    from safetensors.numpy import save_file

    tensors = {name: np.asarray(array, order="C") for name, array in checkpoint.tensors.items()}
    facts = json.dumps(checkpoint.facts, allow_nan=True, separators=(",", ":"))
    metadata = {"format": FORMAT, "facts": facts, "content_sha256": _content_sha256(tensors, facts)}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: there is no such file, it is not hpcnn's, or it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {str(path)!r}. Give a file that hpcnn wrote, or a run folder.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} is not a whole safetensors file ({error}). Use another checkpoint of the run."
        ) from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} is a safetensors file, but not a checkpoint of this hpcnn: "
            f"format {metadata.get('format')!r}, expected {FORMAT!r}."
        )
    facts = metadata.get("facts", "")
    if _content_sha256(tensors, facts) != metadata.get("content_sha256"):
        raise CheckpointError(f"{str(path)!r} is damaged: its content does not match its SHA-256. Use another one.")
    return Checkpoint(tensors, json.loads(facts), metadata["content_sha256"])
