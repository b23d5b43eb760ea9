"""What the folds of a cross-validation come to: mean and deviation over the runs that differ in the fold alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from hpcnn.slurm.collect import Row, figure, plain, rank_of_best, short
from hpcnn.slurm.sweep import Point, to_toml

if TYPE_CHECKING:
    from rich.table import Table

FOLD = "data.fold"


@dataclass(frozen=True)
class Folds:
    """The runs of a sweep with the same settings but for the fold."""

    point: Point
    """The settings, without the fold."""
    monitor: str
    bests: tuple[float, ...]
    """The best value of each run that is done and has one."""
    runs: int
    """All of them."""

    @property
    def mean(self) -> float:
        """The mean; NaN of none."""
        return fmean(self.bests) if self.bests else math.nan

    @property
    def deviation(self) -> float:
        """The standard deviation of one run (with n - 1); NaN of fewer than two."""
        return stdev(self.bests) if len(self.bests) > 1 else math.nan

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        numbers = {"mean": self.mean, "deviation": self.deviation}
        return {
            "settings": {key: plain(value) for key, value in self.point.items()},
            "monitor": self.monitor,
            "done": len(self.bests),
            "folds": self.runs,
            **{name: None if math.isnan(number) else number for name, number in numbers.items()},
        }


def across_folds(rows: Sequence[Row]) -> list[Folds]:
    """Return the runs of a sweep over `data.fold` by their other settings, the best mean first."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row.index):
        if FOLD in row.point:
            found.setdefault(json.dumps(_others(row.point), default=str), []).append(row)
    folds = []
    for group in found.values():
        done = [row for row in group if row.state == "done" and row.best is not None and not math.isnan(row.best)]
        monitor = done[0].monitor if done else ""
        bests = tuple(row.best for row in done if row.best is not None and row.monitor == monitor)
        folds.append(Folds(_others(group[0].point), monitor, bests, len(group)))
    return sorted(folds, key=lambda one: rank_of_best(one.monitor, one.mean))


def _others(point: Point) -> Point:
    return {key: value for key, value in point.items() if key != FOLD}


def table_of_folds(folds: Sequence[Folds]) -> Table:
    """Return them as a table."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    keys = list(dict.fromkeys(key for one in folds for key in one.point))
    monitor = next((one.monitor for one in folds if one.monitor), "")
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in [*short(keys), "folds done", *([f"mean of best {monitor}", "deviation"] if monitor else [])]:
        shown.add_column(Text(name), justify="right")
    for one in folds:
        cells = [to_toml(one.point[key]) if key in one.point else "" for key in keys]
        cells += [f"{len(one.bests)} of {one.runs}"]
        cells += ["" if math.isnan(number) else figure(number) for number in (one.mean, one.deviation) if monitor]
        shown.add_row(*map(Text, cells))
    return shown
