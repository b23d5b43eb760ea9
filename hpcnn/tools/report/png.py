"""The report as one picture, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpcnn.core.formatting import counted
from hpcnn.runs.records.time_log import GROUPS
from hpcnn.tools.html import clean
from hpcnn.tools.pictures import new_figure
from hpcnn.tools.report.curves import STYLES, Chart, charts_of_run, charts_of_runs
from hpcnn.tools.report.ranking import best_first, monitor_of, short_names
from hpcnn.tools.report.record import RunRecord
from hpcnn.tools.report.scales import thinned, value_scale
from hpcnn.tools.report.values import figure

_COLORS = ("#1f6fd0", "#c9480b", "#00806b", "#7d4cc2", "#b3307d", "#86690a", "#0f7d9c", "#4d5a66")
_GREY = "#b4bcc5"
_PARTS = ("#1f6fd0", "#e8a317", "#0f9b8e", "#8e5bd0", "#6db8ee", "#d0508f", "#5b6b7b", "#a8b0ba")
"""Of each of `GROUPS`."""
_PANEL = (4.6, 3.3)
"""Inches."""
_COLUMNS = 3
_MOST_POINTS, _MOST_VALUES = 1000, 4

Panel = Callable[[Any], None]
"""Draws on the axes that it is given."""


def write_png(path: Path, runs: Sequence[RunRecord], title: str = "") -> None:
    """Write a picture with the main panels of the report."""
    panels = _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)
    rows = -(-len(panels) // _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    picture = new_figure(_PANEL[0] * columns, _PANEL[1] * rows + 0.6, "report --png")
    picture.suptitle(_plain(title or _title(runs)), fontsize=13, fontweight="bold", x=0.01, ha="left")
    for place, draw in enumerate(panels):
        axes = picture.add_subplot(rows, columns, place + 1)
        draw(axes)
        axes.spines[["top", "right"]].set_visible(False)
    picture.savefig(path, format="png")


def _plain(text: str) -> str:
    """Return a text that matplotlib takes as it is: a dollar sign would begin a formula."""
    return clean(text).replace("$", r"\$")


def _title(runs: Sequence[RunRecord]) -> str:
    if len(runs) > 1:
        return f"{len(runs)} runs"
    run = runs[0]
    best = run.best(run.monitor)
    return f"{run.name}: {run.state}" + (f", best {run.monitor} {figure(best[1])} in epoch {best[0]}" if best else "")


def _of_one(run: RunRecord) -> list[Panel]:
    panels = [_chart(chart) for chart in charts_of_run(run, _MOST_VALUES)]
    if found := run.confusion():
        panels.append(_matrix(f"confusion matrix, {found[0]}", found[2]))
    if run.accounts:
        account = run.accounts[-1]
        parts = [(name, list(values)) for name, values in account.seconds.items()]
        panels.append(_bars(f"seconds of {counted(account.ranks, 'rank')}", "rank", range(account.ranks), parts))
    return panels or [_nothing(run)]


def _of_several(runs: Sequence[RunRecord]) -> list[Panel]:
    runs = best_first(runs, monitor_of(runs))
    names = short_names(runs)
    panels = [_chart(chart) for chart in charts_of_runs(runs, names)][: 2 * _MOST_VALUES]
    if any(run.accounts for run in runs):
        shares = [run.accounts[-1].shares if run.accounts else {} for run in runs]
        parts = [(part, [one.get(part, 0.0) for one in shares]) for part in GROUPS]
        shown = [(part, values) for part, values in parts if any(values)]
        panels.append(_bars("share of the time", "run", [_plain(name)[-16:] for name in names], shown))
    return panels or [_nothing(runs[0])]


def _chart(chart: Chart) -> Panel:
    def draw(axes: Any) -> None:
        curves = [curve for curve in chart.curves if curve.points]
        for curve in curves:
            shown = thinned(curve.points, _MOST_POINTS)
            numbers = [float("nan") if value is None else value for _, value in shown]
            color = _COLORS[curve.style] if curve.style < STYLES else _GREY
            label = _plain(curve.name) if curve.style < STYLES else "_"
            marker = "o" if len(shown) == 1 else ""
            axes.plot([at for at, _ in shown], numbers, color=color, label=label, linewidth=1.6, marker=marker)
        known = [value for curve in curves for value in curve.known]
        if chart.from_zero:
            axes.set_ylim(bottom=min([0.0, *known]))
        elif known and value_scale(known, 0.0, 1.0).log:
            axes.set_yscale("log")
        axes.set_title(_plain(chart.title), fontsize=10, loc="left")
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(color="#e6e9ec", linewidth=0.7)
        if len(curves) > 1:
            axes.legend(fontsize=7, frameon=False)

    return draw


def _matrix(title: str, matrix: Sequence[Sequence[float]]) -> Panel:
    def draw(axes: Any) -> None:
        shares = [[count / (sum(row) or 1.0) for count in row] for row in matrix]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for true, row in enumerate(matrix) if len(matrix) <= 12 else ():
            for predicted, count in enumerate(row):
                color = "white" if shares[true][predicted] > 0.5 else "#333333"
                if count:
                    axes.text(predicted, true, f"{count:.0f}", ha="center", va="center", fontsize=7, color=color)
        axes.set_title(_plain(title), fontsize=10, loc="left")
        axes.set_xlabel("predicted", fontsize=8)
        axes.set_ylabel("true", fontsize=8)
        axes.tick_params(labelsize=8)

    return draw


def _bars(title: str, x_name: str, places: Sequence[Any], parts: Sequence[tuple[str, Sequence[float]]]) -> Panel:
    def draw(axes: Any) -> None:
        below, colors = [0.0] * len(places), dict(zip(GROUPS, _PARTS, strict=True))
        for part, values in parts:
            axes.bar(range(len(places)), values, bottom=below, color=colors[part], label=part, width=0.85)
            below = [a + b for a, b in zip(below, values, strict=True)]
        if any(isinstance(place, str) for place in places):
            axes.set_xticks(range(len(places)), places, rotation=30, ha="right")
        axes.set_title(_plain(title), fontsize=10, loc="left")
        axes.set_xlabel(x_name, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.margins(y=0.25)
        axes.legend(fontsize=7, frameon=False, ncols=4, loc="upper left")

    return draw


def _nothing(run: RunRecord) -> Panel:
    def draw(axes: Any) -> None:
        axes.text(0, 0.5, _plain("\n".join(run.troubles) or "nothing yet"), fontsize=8, wrap=True)
        axes.set_axis_off()

    return draw
