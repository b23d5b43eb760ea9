"""The memory of a node's ranks that read one compressed file: each by itself, and one for all of them.

``mpirun -n 4 python -m benchmarks.data_memory [--mib 256]``
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hpcnn.comm.collectives import agree
from hpcnn.comm.connect import connect
from hpcnn.comm.protocol import Communicator
from hpcnn.data.readers import read_source
from hpcnn.data.rows import Buffer
from hpcnn.data.source import Source
from hpcnn.job.data import Npz
from hpcnn.training.read_once import read_once

FEATURES = 256


def write(path: Path, mib: int) -> None:
    """Write an archive that takes so much memory once it is read."""
    n = mib * 2**20 // (4 * FEATURES)
    x = np.zeros((n, FEATURES), np.float32)
    x[:, :8] = np.random.default_rng(0).normal(size=(n, 8))
    np.savez_compressed(path, x=x, y=np.zeros(n, np.uint8))


def memory_mib(comm: Communicator) -> float:
    """Return the proportional set size of all ranks: shared pages count once."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return float(sum(comm.allgather(int(found[1])))) / 1024


def measured(comm: Communicator, read: Callable[[], Source]) -> tuple[float, float]:
    """Return how much memory the data take on all ranks after each has used them, and the seconds of reading."""
    before = memory_mib(comm)
    comm.barrier()
    begin = time.perf_counter()
    source = agree(comm, read)
    seconds = max(comm.allgather(time.perf_counter() - begin))
    buffer = Buffer(source.x.shape[1:], source.x.dtype)
    for start in range(0, source.x.shape[0], 4096):
        rows = np.arange(start, min(start + 4096, source.x.shape[0]))
        source.x.take(rows, buffer.rows(len(rows)))
    comm.barrier()
    return memory_mib(comm) - before, seconds


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the data in memory")
    arguments = parser.parse_args()
    comm = connect()
    with tempfile.TemporaryDirectory() as own:
        folder = comm.broadcast(own)
        path = Path(folder, "data.npz")
        if comm.rank == 0:
            write(path, arguments.mib)
        comm.barrier()
        section = Npz(path=str(path))
        ways: dict[str, Callable[[], Source]] = {
            "every rank reads": lambda: read_source(section, path.parent),
            "one rank reads": lambda: read_once(lambda: read_source(section, path.parent), comm),
        }
        for name, read in ways.items():
            mib, seconds = measured(comm, read)
            if comm.rank == 0:
                print(f"{name}: {mib:.0f} MiB for data of {arguments.mib} MiB on {comm.size} ranks, {seconds:.1f} s")
        comm.barrier()


if __name__ == "__main__":
    main()
