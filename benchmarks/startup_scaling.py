"""What the start of a job costs the busiest of thousands of ranks: the real start, on simulated ranks.

    python -m benchmarks.startup_scaling

Every rank does what `hpcnn train` does between connecting and the first step: it exchanges names, reads the job and the
data, agrees with the others at each turn, prepares the exchange by halving and its network, and takes rank 0's weights.
Seconds are those of a processor and hold for this machine; messages are those of binomial trees and of recursive
doubling, each byte at 100 Gbit/s. Not simulated are what MPI itself does in MPI_Init and in making communicators, what
the run folder costs rank 0, and the import of the program, whose files are counted apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.comm.collectives import agree
from hpcnn.comm.members import Members
from hpcnn.comm.network import Network
from hpcnn.comm.simulated import run_simulated
from hpcnn.comm.threads import ThreadCommunicator
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_training
from hpcnn.system.atomic import write_text
from hpcnn.system.cores import read_cores
from hpcnn.system.processes import Process
from hpcnn.training.backend import machines_of_ranks

NETWORK = "2us,100Gb/s"
RANKS_OF_HOST = 16
JOB = """
[data]
source = "npy"
x_path = "x.npy"
y_path = "y.npy"
scale = "standardize"
[[model.layers]]
type = "dense"
units = 8
[[model.layers]]
type = "dense"
units = 4
activation = "softmax"
[loss]
name = "sparse_categorical_crossentropy"
[optimizer]
name = "adam"
clip_norm = 1.0
[train]
optimizer_sharding = true
"""
OPENS = {"open"}
METADATA = {"os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.link", "os.chmod", "os.truncate"}
STATS = ("stat", "lstat", "access")


def start(comm: ThreadCommunicator, job: Path) -> Any:
    """Do what a rank does before it trains; return what it keeps."""
    first = comm.rank - comm.local_rank
    members = Members.gather(comm.allgather, Process.own(comm.host), 0, first)
    loaded = agree(comm, lambda: load_job(job, [f"train.batch_size={comm.size}", f"train.shards={comm.size}"]))
    training = agree(comm, lambda: build_training(loaded.job, loaded.base, comm))
    training.replica.synchronize()
    machines_of_ranks(comm, training.job, training.spec.backend)
    comm.allgather((comm.host, read_cores()))  # as `hpcnn.training.tuning.use_cores` does
    return members, training


def simulated(ranks: int, job: Path, *, memory: bool) -> dict[str, Any]:
    """Start so many ranks; return the figures of the busiest, of memory or of all else."""
    seconds = [0.0] * ranks
    calls = [Counter[str]() for _ in range(ranks)]

    def prepare(comm: ThreadCommunicator) -> Callable[[], Any]:
        def step() -> Any:
            calls_of_thread[threading.get_ident()] = calls[comm.rank]
            begin = time.thread_time()
            kept = start(comm, job)
            seconds[comm.rank] = time.thread_time() - begin
            del calls_of_thread[threading.get_ident()]  # a number is given again
            return kept

        return step

    calls_of_thread.clear()
    host_of_rank = [rank // RANKS_OF_HOST for rank in range(ranks)]
    network = Network.parse(NETWORK)
    if memory:
        tracemalloc.start()
        try:
            outcome = run_simulated(host_of_rank, prepare, network=network, memory=traced_bytes)
        finally:
            tracemalloc.stop()
        return {"MB": max(outcome.used_bytes) / 1e6}
    outcome = run_simulated(host_of_rank, prepare, network=network)
    return {
        "seconds": max(seconds),
        "messages": max(count.messages for count in outcome.counts),
        "KB": max(count.sent_bytes for count in outcome.counts) / 1e3,
        "simulated us": outcome.seconds * 1e6,
        "files opened": max(sum(count[each] for each in OPENS) for count in calls),
        "files opened, all ranks": sum(count[each] for count in calls for each in OPENS),
        "metadata operations": max(sum(count.values()) - sum(count[each] for each in OPENS) for count in calls),
    }


def traced_bytes() -> int:
    """Return the bytes that are allocated now."""
    return tracemalloc.get_traced_memory()[0]


calls_of_thread: dict[int, Counter[str]] = {}
"""What each simulated rank has asked the file system for."""


@contextmanager
def counted() -> Iterator[None]:
    """Count what threads ask the file system for within the block."""

    def add(name: str) -> None:
        counter = calls_of_thread.get(threading.get_ident())
        if counter is not None:
            counter[name] += 1

    sys.addaudithook(lambda event, _: add(event) if event in OPENS | METADATA else None)  # it stays
    originals = {name: getattr(os, name) for name in STATS}  # those raise no audit events

    def counting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            add(name)
            return originals[name](*arguments, **options)

        return call

    try:
        for name in STATS:
            setattr(os, name, counting(name))
        yield
    finally:
        for name, original in originals.items():
            setattr(os, name, original)


IMPORTS = """
import sys
files = set()
sys.addaudithook(lambda event, details: event == "open" and files.add(str(details[0])))
import hpcnn.train, hpcnn.runs.session, hpcnn.backends.choice
print(len(files))
"""


def files_imported() -> int:
    """Return how many files a rank opens to import what trains."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True)
    return int(done.stdout)


def write_job(folder: Path, samples: int) -> Path:
    """Write a job and its data; return its path."""
    random = np.random.default_rng(0)
    np.save(folder / "x.npy", random.standard_normal((samples, 16), np.float32))
    np.save(folder / "y.npy", np.arange(samples) % 4)
    job = folder / "job.toml"
    job.write_text(JOB)
    return job


def measure(ranks: Sequence[int], *, memory: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the figures of each number of ranks."""
    with tempfile.TemporaryDirectory() as folder, counted():
        job = write_job(Path(folder), 2 * max(ranks))
        simulated(2, job, memory=False)  # what the first start imports
        for size in ranks:
            gc.collect()
            gc.disable()  # a collection would go through what all ranks have, in the time of one of them
            try:
                figures = simulated(size, job, memory=False)
                yield size, figures | (simulated(size, job, memory=True) if memory else {})
            finally:
                gc.enable()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 256, 1024, 4096], metavar="N")
    parser.add_argument("--no-memory", action="store_true", help="leave out memory, which takes longer than the rest")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    given = parser.parse_args()
    content: dict[str, Any] = {"files imported": files_imported(), "ranks": {}}
    print(f"a rank opens {content['files imported']} files to import the program")
    for size, figures in measure(given.ranks, memory=not given.no_memory):
        content["ranks"][size] = figures
        print(f"{size:>5} ranks, the busiest: {', '.join(f'{name} {value:,.6g}' for name, value in figures.items())}")
        sys.stdout.flush()
    if given.json:
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
