"""The figures of `bench allreduce`: a table, JSON, a plot."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from hpcnn.core.formatting import byte_size, counted, three_digits
from hpcnn.tools.bench.allreduce import AllreduceTimes
from hpcnn.tools.outputs import print_table
from hpcnn.tools.pictures import new_figure, save_figure

_COLUMNS = ("size", "hpcnn us", "MPI us", "MPI / hpcnn", "bus GB/s", "% of limit")


def show(times: AllreduceTimes, dtype: str, warnings: list[str]) -> None:
    """Print the table."""
    ranks = sum(times.ranks_by_node)
    rows = [
        (
            byte_size(one.size),
            three_digits(median(one.ours) * 1e6),
            three_digits(median(one.mpi) * 1e6),
            f"{one.ratio:.2f}",
            f"{one.bus_bandwidth(ranks) / 1e9:.3f}",
            f"{100 * one.share:.0f}",
        )
        for one in times.sizes
    ]
    title = f"exact sum of {dtype} vectors against MPI_Allreduce: {_where(times)}"
    print_table(title, _COLUMNS, rows, [f"limit: {times.limit}, measured in turn", *times.notes, *warnings])


def _where(times: AllreduceTimes) -> str:
    ranks = times.ranks_by_node
    least, most = min(ranks), max(ranks)
    each = "" if least == most else f", {least} to {most} on each"
    return f"{counted(sum(ranks), 'rank')} on {counted(len(ranks), 'node')}{each}"


def as_json(times: AllreduceTimes, dtype: str) -> dict[str, Any]:
    """Return the raw figures: seconds per call, by repetition, each of the slowest rank."""
    ranks = sum(times.ranks_by_node)
    return {
        "benchmark": "allreduce",
        "dtype": dtype,
        "limit": times.limit,
        "sizes": [
            {
                "bytes": one.size,
                "hpcnn_s": one.ours,
                "mpi_s": one.mpi,
                "limit_s": one.limit,
                "mpi_to_hpcnn": one.ratio,
                "bus_bytes_per_s": one.bus_bandwidth(ranks),
                "share_of_limit": one.share,
            }
            for one in times.sizes
        ],
    }


def plot(times: AllreduceTimes, path: Path) -> None:
    """Draw time over size."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    sizes = [one.size for one in times.sizes]
    for label, style, column in (
        ("MPI_Allreduce", "s-", [one.mpi for one in times.sizes]),
        ("hpcnn", "o-", [one.ours for one in times.sizes]),
        (f"limit: {times.limit}", "k:", [one.limit for one in times.sizes]),
    ):
        axes.plot(sizes, [median(each) * 1e6 for each in column], style, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [byte_size(size) for size in sizes], rotation=45, ha="right")
    axes.set_ylabel("time [us]")
    axes.set_title(f"sum over {_where(times)}")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(path, figure)
