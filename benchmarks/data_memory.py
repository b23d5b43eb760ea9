"""Memory of all ranks together over one compressed file, as a multiple of its rows: one copy a host, or one a rank.

    mpirun -n 4 python -m benchmarks.data_memory

The memory of a rank is its proportional set size, in which a page that n processes share counts as one n-th.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.data_sides import BATCH, CHUNK_ROWS, FEATURES, ROW_BYTES, WINDOW_CHUNKS, Ours
from benchmarks.report import Report, make_parser, positive
from benchmarks.sharding import proportional_set_size
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator

HDF5 = {"source": "hdf5", "path": "gzip.h5"}
WAYS: dict[str, dict[str, Any]] = {
    "HDF5, windows from the file": HDF5 | {"keep": "file", "order": "windows", "window_chunks": WINDOW_CHUNKS},
    "HDF5 kept in memory": HDF5 | {"keep": "memory"},
    "npz": {"source": "npz", "path": "deflated.npz"},
}


def write_files(folder: Path, rows: int) -> None:
    """Write the same rows as two compressed files."""
    x = np.repeat(np.arange(rows, dtype=np.float32)[:, None], FEATURES, axis=1)  # quickly compressed and decoded
    y = np.zeros((rows, 1), np.float32)
    np.savez_compressed(folder / "deflated.npz", x=x, y=y)
    with h5py.File(folder / "gzip.h5", "w") as file:
        options = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        file.create_dataset("x", data=x, chunks=(CHUNK_ROWS, FEATURES), **options)
        file.create_dataset("y", data=y)


def occupied(comm: Communicator) -> float:
    """Return the MiB that all ranks occupy together."""
    gc.collect()
    comm.barrier(spin=False)
    return float(sum(comm.allgather(proportional_set_size())) / 2**20)


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    """Measure the memory before and after each way has read an epoch."""
    own = tempfile.TemporaryDirectory(dir=arguments.folder) if comm.rank == 0 else None
    folder = Path(comm.broadcast(own and own.name))
    if comm.rank == 0:
        write_files(folder, arguments.mb * 2**20 // ROW_BYTES)
    comm.barrier(spin=False)
    report = Report(comm, {"MB": arguments.mb, "batch": BATCH}, arguments.json)
    Ours(comm, folder, {"source": "digits"})()  # what is loaded and allocated once, whatever is read
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way, data in WAYS.items():
            before = occupied(comm)
            epoch = Ours(comm, folder, data)
            epoch()
            taken[way].append(occupied(comm) - before)
            del epoch
    report.add("memory", taken, "MiB", {f"{way} / rows": [mb / arguments.mb for mb in taken[way]] for way in WAYS})
    report.write()
    if own is not None:
        own.cleanup()
    return 0


def main() -> int:
    parser = make_parser("data_memory", "Measures the memory of ranks that read one file.", ranks=4, rounds=1)
    parser.add_argument("--mb", type=positive, default=1024, help="MiB of rows; 1024")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the files are written; the system's own")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
