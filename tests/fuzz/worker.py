"""One process of the fuzzer: it reads damaged files, one after the other, and says how each ended.

Memory is limited, and whatever a case prints is noticed. A case that ends the process is the parent's to report.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from hpcnn.errors import HpcnnError
from hpcnn.job import data as schema
from tests.fuzz.crafted import CRAFTED, MARKER, put_other_thing
from tests.fuzz.crafted_texts import CRAFTED_TEXTS
from tests.fuzz.mutations import BYTES, TEXT, several
from tests.fuzz.reading import read_as_program
from tests.fuzz.samples import Sample
from tests.fuzz.sound import KINDS

MEMORY_BYTES = 300 * 2**20
"""What a case may take beyond what reading sound files took."""
CPU_S = 2.0
MESSAGE_LIMIT = 3000
ROLES = ("training data", "validation data", "validation_fraction")
"""Words of messages about what a job's files hold together."""
WRITERS = {**CRAFTED, **CRAFTED_TEXTS}
OF_LIBTIFF = re.compile(r"(_?TIFF\w*|\w+Decode|tempfile\.tif|MissingRequired|LZW\w+|EstimateStripByteCounts): ").match
"""Lines that libtiff writes of damaged files, from C."""
Read = Callable[[str, Sample, Path, Random], None]


@functools.cache
def samples(kind: str) -> list[Sample]:
    """Return the sound samples of a kind."""
    return KINDS[kind]()


def write(path: Path, content: bytes) -> None:
    """Write a file of a case, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_case(kind: str, number: int, seed: int, folder: Path) -> tuple[Sample, Random, str]:
    """Write the files of a case to `folder`, and return its sample, its generator and the name of its damage."""
    random = Random(f"{seed} {kind} {number}")
    sample = random.choice(samples(kind))
    for name, content in sample.files.items():
        if name != sample.target:
            write(folder / name, content)
    path, choice = folder / sample.target, random.random()
    path.parent.mkdir(parents=True, exist_ok=True)
    if choice < 0.03:
        put_other_thing(path, random)
        return sample, random, "other thing"
    if choice < 0.06:
        other = random.choice(samples(random.choice(list(KINDS)[:3])))
        path.write_bytes(other.content)
        return sample, random, "other kind of file"
    general = several(TEXT if kind in ("job", "csv", "text", "image tables") else BYTES)
    mutation = random.choice(WRITERS[kind]) if choice < 0.5 else general
    path.write_bytes(mutation(sample.content, random))
    return sample, random, mutation.__name__


def _of_parser(error: MemoryError) -> bool:
    """Return whether the error comes from Python's parser: that is how it says "too deep"."""
    return traceback.extract_tb(error.__traceback__)[-1].filename.endswith("ast.py")


def _of_codec(error: MemoryError) -> bool:
    """Return whether a codec of Zarr raised it, which asks for what a chunk declares, and would not use it."""
    return any("numcodecs" in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def _taken_at_no_time(error: MemoryError) -> bool:
    """Return whether Arrow asked for more than any machine has, because the file says so: that fails at once."""
    size = re.fullmatch(r"(?:malloc|realloc) of size (\d+) failed", str(error))
    return size is not None and int(size[1]) > 2**40


def _fault(error: BaseException, sample: Sample) -> str:
    """Return what is wrong with the way in which a case ended, or nothing."""
    if not isinstance(error, HpcnnError):
        last = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(last) if "/hpcnn/" in frame.filename), last[-1])
        place = f"{Path(ours.filename).name}:{ours.lineno}"
        return f"{type(error).__name__}: {str(error)[:200]} in {place}"
    message, cause = str(error), error.__context__
    while cause is not None:
        if isinstance(cause, MemoryError) and not any(
            meant(cause) for meant in (_of_parser, _of_codec, _taken_at_no_time)
        ):
            return f"tried to take too much memory: {message[:200]}"
        cause = cause.__context__
    table = sample.section.path if isinstance(sample.section, schema.TableSection) else sample.target
    names = (str(Path.cwd()) if isinstance(sample.section, schema.Idx) else sample.target, table, *ROLES)
    names = (*names, sample.read) if sample.read else names
    if not any(name in message for name in names):
        return f"does not name the file: {message[:300]}"
    return f"a message of {len(message)} characters: {message[:200]}" if len(message) > MESSAGE_LIMIT else ""


def run_case(read: Read, kind: str, number: int, seed: int) -> dict[str, Any]:
    """Write and read one case; return how it ended, what it took, and what is wrong with that."""
    folder = Path.cwd() / "case"
    folder.mkdir()
    sample, random, damage = write_case(kind, number, seed, folder)
    os.chdir(folder)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, ended, fault, message = time.process_time(), "read", "", ""
    try:
        read(kind, sample, folder, random)
    except Exception as error:
        ended, fault, message = "error", _fault(error, sample), str(error)
    except BaseException as error:  # a panic of Rust
        ended, fault = "error", f"{type(error).__name__}: {error}"
    seconds = time.process_time() - begin
    taken_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    if (folder / MARKER).exists():
        fault = "it ran code"
    if seconds > CPU_S:
        fault = fault or f"took {seconds:.1f} s"
    os.chdir(folder.parent)
    shutil.rmtree(folder)
    return {
        "kind": kind, "number": number, "damage": damage, "ended": ended, "fault": fault, "seconds": seconds,
        "mb": taken_kb / 1024, "message": message[:200],
    }  # fmt: skip


def _limit_memory() -> None:
    """Let this process take no more than `MEMORY_BYTES` beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read_sound(kind: str) -> None:
    for sample in samples(kind):
        folder = Path(tempfile.mkdtemp(dir="."))
        for name, content in sample.files.items():
            write(folder / name, content)
        for draw in range(8):  # each way of reading
            read_as_program(kind, sample, folder.resolve(), Random(draw))
        shutil.rmtree(folder)


def main(read: Read = read_as_program) -> None:
    """Take kinds, then cases, from standard input, and answer each by a line of JSON. `read` reads the cases."""
    answers = os.fdopen(os.dup(1), "w")
    printed = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
    os.dup2(printed.fileno(), 1)
    warnings.simplefilter("always")
    for kind in json.loads(sys.stdin.readline()):
        _read_sound(kind)
    with suppress(ImportError):
        importlib.import_module("pyarrow.csv")  # which large tables alone need: no part of what a case takes
    _limit_memory()
    os.dup2(printed.fileno(), 2)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        printed.seek(0)
        printed.truncate()
        outcome = run_case(read, *json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        printed.seek(0)
        said = [line for line in printed.read(10_000).decode(errors="replace").splitlines() if not OF_LIBTIFF(line)]
        if said:
            outcome["fault"] = outcome["fault"] or f"printed: {'; '.join(said)[:300]}"
        print(json.dumps(outcome), file=answers, flush=True)


if __name__ == "__main__":
    main()
