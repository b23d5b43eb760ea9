"""Pictures in PNG and SVG files, drawn with matplotlib (extra `plot`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.errors import MissingExtraError
from hpcnn.tools.outputs import write_whole, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, purpose: str = "--plot") -> Figure:
    """Return an empty figure; width and height are in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plot", purpose) from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as SVG, if the name says so, or else as PNG."""
    with writing(path) as temporary:
        figure.savefig(temporary, format="svg" if path.suffix == ".svg" else "png", dpi=150)


def write_results(folder: Path, name: str, table: str, draw: Callable[[Path], None]) -> str:
    """Write ``NAME.csv`` and, if matplotlib is installed, ``NAME.png``. Return a line that says so."""
    write_whole(folder / f"{name}.csv", table)
    if importlib.util.find_spec("matplotlib") is None:
        return f"written to {folder}: {name}.csv. For pictures install matplotlib: pip install 'hpcnn[plot]'"
    draw(folder / f"{name}.png")
    return f"written to {folder}: {name}.csv, {name}.png"
