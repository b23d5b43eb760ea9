"""How long a checkpoint holds up training: hpcnn's, with the SHA-256 of its content, and a plain file of the same.

The plain file is written by `safetensors.numpy.save_file` from arrays that lie ready in memory, and synced; hpcnn's is
saved as in training: hashed, written, synced, linked. Older files are deleted beside the training, which neither time
includes. All in turn, in one run.
With more than one rank the optimizer's state lies on all of them. Two ways in turn: each rank writes its part, as hpcnn
does on several nodes, or rank 0 brings all together and writes it, as on one node, or where the others do not see its
folder; and by how much the memory of rank 0 grows.

    python -m benchmarks.checkpoint --folder /where/runs/are/kept
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import ratios
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CheckpointError
from hpcnn.job.data import Synthetic
from hpcnn.job.layers import Dense
from hpcnn.job.model import Model, SparseCategoricalCrossentropy
from hpcnn.job.schema import Job, Train
from hpcnn.runs.build import build_training
from hpcnn.runs.checkpoints import together
from hpcnn.runs.checkpoints.saver import Saver
from hpcnn.runs.run_context import RunContext
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.state import pack
from hpcnn.storage import disk, hashing
from hpcnn.training.loop import Progress
from hpcnn.training.training import Training

ALONE, EACH, PLAIN = "hpcnn, rank 0 writes", "hpcnn, each rank its part", "safetensors.save_file + fsync"
INPUTS, OUTPUTS = 784, 10
WARM_UP = 3
"""Saves before the first that counts: from then on there are older ones to delete."""


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    training = trained_once(comm, arguments.width)
    progress = Progress(stats=training.replica.model.layout.zeros())
    settings = {"parameters": training.spec.network.layout.size, "optimizer": "adam"}
    report = Report(comm, settings, arguments.json)
    ways = (PLAIN, ALONE, EACH) if comm.size > 1 else (PLAIN, ALONE)
    figures: dict[str, list[float]] = {way: [] for way in ways}
    memory: dict[str, list[float]] = {}
    parts: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = RunFolder(Path(comm.broadcast(name)))
        saver = Saver(RunContext(comm, training, folder, folder.path))
        before = begin_peak()
        for way in reversed(ways[1:]):  # what needs less comes first, since some of what is freed stays
            with writers(way):
                save_or_fail(saver, progress)
            memory[way] = [(resident("VmHWM") - before) / 1e6]
        plain = plain_save(comm, training, progress, folder.path / "plain.safetensors")
        for step in range(WARM_UP + arguments.rounds):
            save = partial(save_or_fail, saver, replace(progress, step=step))
            for way in ways:
                with writers(way):
                    took = seconds(comm, plain if way == PLAIN else save)
                saver.wait_for_deletion()  # what either side deletes does not disturb the other
                (folder.path / "plain.safetensors").unlink(missing_ok=True)
                if step >= WARM_UP:
                    figures[way].append(took)
        for way in ways[1:]:
            with writers(way):
                parts |= {f"{way}: {part}": [took] for part, took in parts_of(comm, save).items()}
        comm.barrier()
    compared = {"rank 0 writes / plain": ratios(figures[ALONE], figures[PLAIN])}
    if EACH in figures:
        compared["each its part / rank 0 writes"] = ratios(figures[EACH], figures[ALONE])
    report.add("time of a save", figures, "s", compared)
    report.add("growth of rank 0's memory in the first save", memory, "MB", {})
    report.add("busiest rank's seconds in one save, on all its threads", parts, "s", {})
    report.write()
    return 0


@contextmanager
def writers(way: str) -> Iterator[None]:
    """Let all ranks write, or rank 0 alone, on however many hosts."""
    fewest = together.FEWEST_HOSTS
    together.FEWEST_HOSTS = 1 if way == EACH else sys.maxsize
    try:
        yield
    finally:
        together.FEWEST_HOSTS = fewest


def begin_peak() -> int:
    """Begin to record the most memory of this process anew; return what it has now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> int:
    """Return the bytes that the system says of the memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def parts_of(comm: Communicator, save: Callable[[], None]) -> dict[str, float]:
    """Return the seconds of each part of a save on the rank where it takes most of them, on all threads together."""
    spent = {"write": 0.0, "hash": 0.0, "sync": 0.0}

    def timed(part: str, function: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            begin = clock()
            result = function(*arguments)
            spent[part] += clock() - begin
            return result

        return call

    class Sha256:
        """Of the weights."""

        def __init__(self) -> None:
            self._hash = hashlib.sha256()
            self.update = timed("hash", self._hash.update, time.thread_time)
            self.hexdigest = self._hash.hexdigest

    patched = [
        (disk, "write_at", timed("write", disk.write_at, time.thread_time)),
        (hashing, "_digest", timed("hash", hashing._digest, time.thread_time)),
        (hashing, "hashlib", SimpleNamespace(sha256=lambda *data: hashlib.sha256(*data) if data else Sha256())),
        (os, "fsync", timed("sync", os.fsync, time.perf_counter)),
        (os, "fdatasync", timed("sync", os.fdatasync, time.perf_counter)),
    ]
    originals = [(where, name, getattr(where, name)) for where, name, _ in patched]
    for where, name, function in patched:
        setattr(where, name, function)
    try:
        spent["whole"] = seconds(comm, save)
    finally:
        for where, name, function in originals:
            setattr(where, name, function)
    everyone = comm.allgather(spent)
    return {part: max(each[part] for each in everyone) for part in spent}


def trained_once(comm: Communicator, width: int) -> Training:
    """Return a training with two hidden layers of `width`, after one step."""
    hidden = Dense(units=width, activation="relu")
    job = Job(
        data=Synthetic(kind="classification", samples=comm.size, features=INPUTS, classes=OUTPUTS),
        model=Model(layers=[hidden, hidden, Dense(units=OUTPUTS, activation="softmax")]),
        loss=SparseCategoricalCrossentropy(),
        train=Train(batch_size=comm.size, shards=comm.size),
    )
    training = build_training(job, Path(), comm)
    training.shards.start_epoch(0)
    training.replica.train_step(0, partial(training.shards.shards, 0), factor=1.0)
    return training


def plain_save(comm: Communicator, training: Training, progress: Progress, path: Path) -> Callable[[], None]:
    """Return what writes all arrays from a copy of them; for rank 0."""
    from safetensors.numpy import save_file

    draft = pack(training, path.parent, progress)
    if comm.rank != 0:
        draft.participate()
        return lambda: None
    tensors = dict(draft.collect().tensors)

    def save() -> None:
        save_file(tensors, path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())

    return save


def save_or_fail(saver: Saver, progress: Progress) -> None:
    saver(progress)
    if saver.unsaved:
        raise CheckpointError(f"nothing was saved: {saver.unsaved}. Give another --folder.")


def seconds(comm: Communicator, action: Callable[[], None]) -> float:
    """Return how long `action` takes until all ranks are done."""
    comm.barrier()
    begin = time.perf_counter()
    action()
    comm.barrier()
    return time.perf_counter() - begin


def main() -> int:
    parser = make_parser("checkpoint", "Measures how long a checkpoint holds up training.", ranks=1, rounds=7)
    parser.add_argument("--width", type=positive, default=9600, metavar="N", help="of both hidden layers; 9600")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to write; the folder for temporary files")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
