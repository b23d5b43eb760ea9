"""How fast batches are read from files, in MB/s of rows: hpcnn, the format's library in turn, PyTorch's DataLoader.

    mpirun -n 2 python -m benchmarks.data

Each way begins with nothing of the file in the cache of the system, as if it were larger than that.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.data_sides import (
    BATCH,
    FILES,
    PICTURE_BYTES,
    ROW_BYTES,
    WINDOW_CHUNKS,
    Epoch,
    Ours,
    at_the_start,
    by_torch,
    files_of,
    forget,
    in_turn,
    settings_of,
    write_files,
)
from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import ratios
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator

IN_TURN, LOADER, LOADER_WINDOWS = "one after the other", "DataLoader", "DataLoader, windows"
FEW = 1
"""Batches that are read where a chunk is decoded for each row."""
WINDOWS = {"order": "windows", "window_chunks": WINDOW_CHUNKS}
FROM_FILE = {"keep": "file"}
DIRECT = {"keep": "file", "prefetch": 0}
MEMORY = {"keep": "memory"}


def ways_of(comm: Communicator, folder: Path, name: str) -> dict[str, Epoch | None]:
    """Return all that reads a file."""

    def ours(batches: int = 0, **settings: Any) -> Ours:
        return Ours(comm, folder, settings_of(name) | settings, batches)

    ways: dict[str, Epoch | None] = {IN_TURN: in_turn(comm, folder, name)}
    if name == "table.parquet":
        ways |= {"read at the start": at_the_start(folder, name), "from memory": ours()}
    elif name in ("x.npy", "plain.h5"):
        ways |= {"global": ours(), "windows": ours(**WINDOWS)}
    elif name == "x.zarr":
        ways |= {"windows": ours(**WINDOWS, **FROM_FILE), "from memory": ours(**MEMORY)}
        return ways
    elif name == "pictures":
        ways |= {"global, not ahead": ours(**DIRECT), "global": ours(**FROM_FILE), "from memory": ours(**MEMORY)}
    else:
        ways |= {
            "global": ours(FEW, **DIRECT),
            "windows, not ahead": ours(**WINDOWS, **DIRECT),
            "windows": ours(**WINDOWS, **FROM_FILE),
            "from memory": ours(**MEMORY),
            LOADER_WINDOWS: by_torch(comm, folder, name, windows=True),
        }
    if name == "plain.h5":
        ways[LOADER_WINDOWS] = by_torch(comm, folder, name, windows=True)
    return ways | {LOADER: by_torch(comm, folder, name, FEW if name.endswith(".h5") else 0)}


def rates_of(comm: Communicator, epoch: Epoch, row_bytes: int) -> tuple[float, float]:
    """Return the MB of rows a second that all ranks read together, and those a second of the processor's time."""
    comm.barrier(spin=False)
    begin, busy = time.perf_counter(), time.process_time()
    rows = epoch()
    busy = time.process_time() - busy
    comm.barrier(spin=False)
    seconds = max(comm.allgather(time.perf_counter() - begin))
    mb = sum(comm.allgather(rows)) * row_bytes / 2**20
    return mb / seconds, mb / sum(comm.allgather(busy))


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    """Write the files, and read each of them in all ways, in turn."""
    own = tempfile.TemporaryDirectory(dir=arguments.folder) if comm.rank == 0 else None
    folder = Path(comm.broadcast(own and own.name))
    if comm.rank == 0:
        write_files(folder, arguments.files, arguments.mb * 2**20 // ROW_BYTES)
    comm.barrier(spin=False)
    cache = "as it is" if arguments.warm else "empty"
    report = Report(comm, {"MB": arguments.mb, "batch": BATCH, "cache": cache}, arguments.json)
    for name in arguments.files:
        ways = {way: epoch for way, epoch in ways_of(comm, folder, name).items() if epoch is not None}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        work: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, epoch in ways.items():
                if not arguments.warm:
                    empty_cache(comm, ways, files_of(folder, name))
                rate, of_work = rates_of(comm, epoch, PICTURE_BYTES if name == "pictures" else ROW_BYTES)
                rates[way].append(rate)
                work[way].append(of_work)
        report.add(name, rates, "MB/s", shares_of(rates) | shares_of_work(work))
        del ways, epoch
        gc.collect()
    report.write()
    comm.barrier(spin=False)
    if own is not None:
        own.cleanup()
    return 0


def empty_cache(comm: Communicator, ways: dict[str, Epoch], files: list[Path]) -> None:
    """Remove a file from the cache of the system."""
    for epoch in ways.values():
        if isinstance(epoch, Ours):
            epoch.unmap()
    comm.barrier(spin=False)
    if comm.rank == 0:
        forget(files)


def shares_of(rates: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the rate of each way over that of a read in turn, and of ours over those of PyTorch."""
    shares = {f"{way} / {IN_TURN}": ratios(rate, rates[IN_TURN]) for way, rate in rates.items() if way != IN_TURN}
    for ours, other in (("windows", LOADER_WINDOWS), ("windows", LOADER), ("global", LOADER), ("from memory", LOADER)):
        if ours in rates and other in rates:
            shares[f"{ours} / {other}"] = ratios(rates[ours], rates[other])
    return shares


def shares_of_work(work: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return the shares of the processor's time, which others on the machine disturb less; a DataLoader has its own."""
    return {
        f"{way} / {IN_TURN}, of the processor's time": ratios(rate, work[IN_TURN])
        for way, rate in work.items()
        if way not in (IN_TURN, LOADER, LOADER_WINDOWS)
    }


def main() -> int:
    parser = make_parser("data", "Measures how fast batches are read from files.", ranks=2, rounds=5)
    parser.add_argument("--mb", type=positive, default=128, help="MiB of rows; 128")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the files are written; the system's own")
    parser.add_argument("--files", nargs="+", choices=FILES, default=list(FILES), help="; all of them")
    parser.add_argument("--warm", action="store_true", help="let the cache of the system hold the files")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
