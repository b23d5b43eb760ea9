"""How fast batches of files are read, in MB/s of decoded rows: orders, reading ahead, PyTorch's DataLoader.

mpirun -n 2 python -m benchmarks.data
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import msgspec
import numpy as np

from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import ratios
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import HpcnnError
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training

FEATURES, CHUNK_ROWS, BATCH = 1024, 256, 256
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
"""Where version 1 of control groups has those of memory, and the file of their limit."""
WINDOWS = {"order": "windows", "window_chunks": 16}
HDF5 = {
    "global": {"keep": "file"},
    "windows, no reading ahead": WINDOWS | {"keep": "file", "prefetch": 0},
    "windows": WINDOWS | {"keep": "file"},
    "kept in memory": {"keep": "memory"},
}
NPY: dict[str, dict[str, Any]] = {"global": {}, "windows": WINDOWS}
Epoch = Callable[[], object]


def write_files(folder: Path, rows: int) -> None:
    """Write the same rows as a compressed HDF5 file, one that is not, and `.npy` files."""
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, FEATURES))
    for start in range(0, rows, CHUNK_ROWS):
        x[start : start + CHUNK_ROWS] = rng.integers(0, 50, (min(CHUNK_ROWS, rows - start), FEATURES))
    np.save(folder / "y.npy", np.zeros((rows, 1), np.float32))
    for name, options in (("gzip.h5", {"compression": "gzip", "shuffle": True}), ("plain.h5", {})):
        with h5py.File(folder / name, "w") as file:
            file.create_dataset("x", data=x, chunks=(CHUNK_ROWS, FEATURES), **options)
            file.create_dataset("y", data=np.load(folder / "y.npy"))


def epoch_of(comm: Communicator, folder: Path, data: dict[str, Any]) -> Epoch:
    """Return what reads an epoch of the rank's share, as a training does."""
    table = {
        "data": data,
        "model": {"layers": [{"type": "dense", "units": 1}]},
        "loss": {"name": "mse"},
        "train": {"batch_size": BATCH, "shards": comm.size},
    }
    training = agree(comm, lambda: build_training(msgspec.convert(table, Job), folder, comm))
    loader, owned = training.shards, training.replica.owned

    def read() -> None:
        loader.start_epoch(0, 0, owned)
        for step in range(loader.steps_per_epoch):
            loader.shards(step, *owned)
        loader.close()

    return read


def in_turn(comm: Communicator, rows: Any) -> Epoch:
    """Return what reads the rank's share of the chunks, one after the other."""
    buffer = np.empty((CHUNK_ROWS, FEATURES), np.float32)
    share = range(comm.rank * CHUNK_ROWS, len(rows), comm.size * CHUNK_ROWS)

    def read() -> None:
        for start in share:
            part = rows[start : start + CHUNK_ROWS]
            buffer[: len(part)] = part

    return read


class RowByRow:
    """A data set as PyTorch's tutorials have it. Each process opens the file for itself."""

    def __init__(self, path: Path) -> None:
        self._path, self._rows = path, None
        self._length = len(_stored(path))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        if self._rows is None:
            self._rows = _stored(self._path)
        return np.array(self._rows[index])


def _stored(path: Path) -> Any:
    return np.load(path, mmap_mode="r") if path.suffix == ".npy" else h5py.File(path, "r")["x"]


def by_torch(comm: Communicator, path: Path) -> Epoch | None:
    """Return what reads the rows by PyTorch's DataLoader on rank 0, with a process for each rank; None without it."""
    try:
        from torch.utils.data import DataLoader
    except ModuleNotFoundError:
        return None
    if comm.rank:
        return lambda: None
    loader: Any = DataLoader(RowByRow(path), batch_size=BATCH, shuffle=True, num_workers=comm.size)
    return lambda: [None for _ in loader]


def seconds_of(comm: Communicator, epoch: Epoch) -> float:
    """Return how long the slowest rank takes."""
    comm.barrier(spin=False)
    begin = time.perf_counter()
    epoch()
    comm.barrier(spin=False)
    return float(max(comm.allgather(time.perf_counter() - begin)))


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    """Write the files, and read each of them in all ways, in turn."""
    own = tempfile.TemporaryDirectory(dir=arguments.folder) if comm.rank == 0 else None
    folder = Path(comm.broadcast(own and own.name))
    rows = arguments.mb * 2**20 // (4 * FEATURES)
    if comm.rank == 0:
        write_files(folder, rows)
    comm.barrier(spin=False)
    limited = limit_memory(arguments.memory_mb) if arguments.memory_mb else "no limit"
    report = Report(comm, {"MB": arguments.mb, "batch": BATCH, "memory": limited}, arguments.json)
    for name in arguments.files:
        data: dict[str, Any] = {"source": "npy", "x_path": "x.npy", "y_path": "y.npy"}
        if name != "x.npy":
            data = {"source": "hdf5", "path": name}
        epochs: dict[str, Epoch | None] = {"chunk after chunk": in_turn(comm, _stored(folder / name))}
        for way, settings in (NPY if name == "x.npy" else HDF5).items():
            epochs[way] = epoch_of(comm, folder, data | settings)
        epochs["PyTorch's DataLoader"] = by_torch(comm, folder / name)
        ways = {way: epoch for way, epoch in epochs.items() if epoch is not None}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, epoch in ways.items():
                rates[way].append(arguments.mb / seconds_of(comm, epoch))
        first = rates["chunk after chunk"]
        shares = {f"{way} / chunk after chunk": ratios(rate, first) for way, rate in rates.items() if rate is not first}
        report.add(name, rates, "MB/s", shares)
    report.write()
    if own is not None:
        own.cleanup()
    return 0


def limit_memory(mb: int) -> str:
    """Keep this process, and what it has in the cache of the system, in a control group of that size."""
    place, limit = MEMORY_GROUPS
    group = place / "hpcnn-benchmark"
    try:
        group.mkdir(exist_ok=True)
        (group / limit).write_text(str(mb * 2**20))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        raise HpcnnError(f"--memory-mb {mb}: no control group can be made ({error}). Leave it out.") from None
    return f"{mb} MB together"


def main() -> int:
    parser = make_parser("data", "Measures how fast batches are read from files.", ranks=2, rounds=5)
    parser.add_argument("--mb", type=positive, default=128, help="MiB of rows; 128")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the files are written; the system's own")
    parser.add_argument(
        "--files", nargs="+", choices=["gzip.h5", "plain.h5", "x.npy"], default=["gzip.h5", "plain.h5", "x.npy"]
    )
    parser.add_argument("--memory-mb", type=positive, default=0, help="memory of all ranks with the system's cache")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
