"""How long a checkpoint holds up training: hpcnn's, with the SHA-256 of its content, and a plain file of the same.

The plain file is written by `safetensors.numpy.save_file` from arrays that lie ready in memory, and synced; hpcnn's is
saved as in training: gathered, hashed, written, synced, linked. Older files are deleted beside the training, which
neither time includes. Both in turn, in one run.
With more than one rank the optimizer's state lies on all of them, and hpcnn's time includes bringing it together.

    python -m benchmarks.checkpoint --folder /where/runs/are/kept
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

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
from hpcnn.runs.checkpoints.saver import Saver
from hpcnn.runs.run_context import RunContext
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.state import pack
from hpcnn.training.loop import Progress
from hpcnn.training.training import Training

HPCNN, PLAIN = "hpcnn", "safetensors.save_file + fsync"
INPUTS, OUTPUTS = 784, 10
WARM_UP = 3
"""Saves before the first that counts: from then on there are older ones to delete."""


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    training = trained_once(comm, arguments.width)
    progress = Progress(stats=training.replica.model.layout.zeros())
    settings = {"parameters": training.spec.network.layout.size, "optimizer": "adam"}
    report = Report(comm, settings, arguments.json)
    figures: dict[str, list[float]] = {PLAIN: [], HPCNN: []}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = RunFolder(Path(comm.broadcast(name)))
        saver = Saver(RunContext(comm, training, folder, folder.path))
        plain = plain_save(comm, training, progress, folder.path / "plain.safetensors")
        for step in range(WARM_UP + arguments.rounds):
            save = partial(save_or_fail, saver, replace(progress, step=step))
            for way, action in ((PLAIN, plain), (HPCNN, save)):
                took = seconds(comm, action)
                saver.wait_for_deletion()  # what either side deletes does not disturb the other
                (folder.path / "plain.safetensors").unlink(missing_ok=True)
                if step >= WARM_UP:
                    figures[way].append(took)
        comm.barrier()
    report.add("time of a save", figures, "s", {"hpcnn / plain": ratios(figures[HPCNN], figures[PLAIN])})
    report.write()
    return 0


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
