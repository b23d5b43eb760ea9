"""Training steps of deep networks against PyTorch, in turn: convolutional ones, recurrent ones, a transformer.

Both sides train with Adam, PyTorch with its fused one, on images in the order of memory that is the fastest for it. On
several ranks PyTorch's side is its DistributedDataParallel over gloo.

    python -m benchmarks.deep
    mpirun -n 2 python -m benchmarks.deep
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator

from msgspec.structs import replace

from benchmarks.deep_networks import DEEP, STEPS
from benchmarks.deep_torch import deep_torch_steps
from benchmarks.hpcnn_side import NOT_READ, job_steps
from benchmarks.report import Report, make_parser
from benchmarks.torch_side import gloo_group, load_torch
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.job.model import Model
from hpcnn.job.schema import Job, Train
from hpcnn.job.shards import shards_of

OURS, TORCH = "hpcnn", "PyTorch"


class Timed:
    """Steps, and the processor's seconds that this process spent in them."""

    def __init__(self, steps: Iterator[None]) -> None:
        self._steps, self.seconds, self.count = steps, 0.0, 0

    def __iter__(self) -> Iterator[None]:
        return self

    def __next__(self) -> None:
        begin = time.process_time()
        next(self._steps)
        self.seconds += time.process_time() - begin
        self.count += 1

    def reset(self) -> None:
        """Forget what was measured so far."""
        self.seconds, self.count = 0.0, 0


def hpcnn_deep_steps(name: str, comm: Communicator, shards: int = 0) -> Iterator[None]:
    """Train for ever as a job does that has such layers; `shards` 0: as many as a job has that says nothing of them."""
    what = DEEP[name]
    batch = what.batch * comm.size
    job = Job(
        data=NOT_READ,
        model=Model(layers=what.layers()),
        loss=what.loss,
        train=Train(batch_size=batch, shards=shards or "auto"),
    )
    job = replace(job, train=replace(job.train, shards=shards_of(job)))
    return job_steps(job, *what.data(STEPS * batch), comm)


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    load_torch()
    parallel = comm.size > 1
    with gloo_group(comm) if parallel else contextlib.nullcontext():
        order = "first" if arguments.channels_first else "last"
        report = Report(comm, {"shards": arguments.shards or "auto", "channels of torch": order}, arguments.json)
        for name in arguments.networks or DEEP:
            ours = Timed(hpcnn_deep_steps(name, comm, arguments.shards))
            theirs = Timed(deep_torch_steps(name, parallel=parallel, channels_last=not arguments.channels_first))
            runners = [Runner(OURS, ours), Runner(TORCH, theirs)]
            for side in (ours, theirs):
                next(side), next(side)
                side.reset()
            figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
            measured = rates(figures, dict.fromkeys(figures, DEEP[name].batch * comm.size))
            found = {"ratio": ratios(measured[OURS], measured[TORCH])}
            if not parallel:  # ranks that wait for each other spin
                found["ratio of processor time"] = [theirs.seconds / theirs.count / (ours.seconds / ours.count)]
            report.add(name, measured, "samples/s", found)
        report.write()
    return 0


def main() -> int:
    parser = make_parser("deep", "Compares the training of deep networks with PyTorch.", ranks=1, rounds=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement; 1")
    parser.add_argument("--networks", nargs="+", choices=list(DEEP), metavar="NAME", help="all if left out")
    parser.add_argument("--shards", type=int, default=0, metavar="V", help="gradient shards; as a job has if left out")
    parser.add_argument("--channels-first", action="store_true", help="PyTorch's other order of images in memory")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
