"""What the benchmarks have in common: tables on the screen, raw figures as JSON, plots as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnn import __version__
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import HpcnnError, MissingExtraError
from hpcnn.runs.display.console import rich_console
from hpcnn.system.atomic import atomic_path, write_text
from hpcnn.system.blas import fingerprint
from hpcnn.system.cores import oversubscription, read_cores
from hpcnn.system.output import write_line
from hpcnn.system.terminal import terminal_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PLAIN_WIDTH = 160


def check_outputs(json_path: Path | None, plot_path: Path | None) -> None:
    """Check where figures are to go, before anything is measured.

    Raises:
        HpcnnError: a folder that does not exist, a folder in place of a file, or a plot that is not to be a PNG.
        MissingExtraError: a plot, but no matplotlib.
    """
    for option, path in (("--json", json_path), ("--plot", plot_path)):
        if path is None:
            continue
        if path.is_dir():
            raise HpcnnError(f"{option} {str(path)!r} is a folder. Name a file in it.")
        if not path.parent.is_dir():
            raise HpcnnError(f"{option}: there is no folder {str(path.parent)!r} to write {path.name!r} to")
    if plot_path is not None:
        if plot_path.suffix != ".png":
            raise HpcnnError(f"--plot {str(plot_path)!r} must be a .png file")
        new_figure(1, 1)


def measured_on(comm: Communicator, *, with_hosts: bool) -> dict[str, Any]:
    """Return what the figures were measured on; hosts only on request. Collective."""
    hosts = comm.allgather(comm.host)
    environment: dict[str, Any] = {"hpcnn": __version__, "machine": fingerprint(), "ranks": comm.size}
    environment["ranks_by_node"] = [hosts.count(host) for host in dict.fromkeys(hosts)]
    if comm.size > 1:
        from hpcnn.comm.exchange.allreduce_exchange import mpi_library

        environment["mpi"] = mpi_library()
    return environment | ({"hosts": hosts} if with_hosts else {})


def warnings(comm: Communicator) -> list[str]:
    """Return what makes the figures worse than they could be. Collective."""
    crowd = oversubscription(comm.allgather((comm.host, read_cores())))
    return [*comm.notes, *([crowd] if crowd else [])]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write the figures.

    Raises:
        HpcnnError: the file can't be written.
    """
    try:
        write_text(path, json.dumps(values, indent=1) + "\n")
    except OSError as error:
        raise HpcnnError(f"can't write {str(path)!r}: {error.strerror}") from None


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise MissingExtraError("matplotlib", "plot", "--plot") from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG.

    Raises:
        HpcnnError: the file can't be written.
    """
    try:
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    except OSError as error:
        raise HpcnnError(f"can't write {str(path)!r}: {error.strerror}") from None


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Print a table of numbers, with lines in a terminal and plain elsewhere, and sentences below it."""
    from rich.table import Table

    terminal = terminal_path()
    console = rich_console(terminal)
    table = Table(*columns)
    for column in table.columns:
        column.justify = "right"
    if terminal is None:
        table.box, console.width = None, _PLAIN_WIDTH
    for row in rows:
        table.add_row(*row)
    console.print(title, highlight=False, markup=False)
    console.print(table, highlight=False, markup=False)
    for note in notes:
        write_line(note)
