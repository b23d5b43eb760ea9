"""The result of a range test: text and a chart in the terminal, CSV, PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.core.formatting import csv_text
from hpcnn.tools.lr_find.measure import RangeTest
from hpcnn.tools.lr_find.suggestion import Suggestion, smoothed
from hpcnn.tools.pictures import new_figure, save_figure

COLUMNS, LINES = 60, 12
"""Size of the chart in characters."""


def sentences(test: RangeTest, suggestion: Suggestion | None) -> list[str]:
    """Return the result line by line; the last line is the setting for the job, if there is one."""
    done = f"{len(test.losses)} of {test.steps} steps, at learning rates from {test.rates[0]:.1e} to "
    said = [done + f"{test.rates[-1]:.1e}" + (f", until {test.ended}" if test.ended else "")]
    if suggestion is None:
        return [
            *said,
            "no suggestion: the loss does not fall at any of these rates. Try other ones (--from, --to), more --steps, "
            "or look for the fault elsewhere: data.scale, the targets, the size of the model.",
        ]
    said += [
        f"{suggestion.steepest:.1e}  the smoothed loss falls fastest, per decade of the rate: suggested",
        f"{suggestion.lowest:.1e}  it is lowest; a tenth of that, {suggestion.tenth:.1e}, is the other common rule",
    ]
    if not test.ended and suggestion.lowest == test.rates[-1]:
        said.append("the loss still falls at the highest rate: a higher --to may suggest a higher one")
    return [*said, f"put it into the job by: --set optimizer.learning_rate={suggestion.rate:g}"]


def as_json(job: str, test: RangeTest, suggestion: Suggestion | None) -> dict[str, Any]:
    """Return the result as plain values for JSON."""
    found = None if suggestion is None else {"steepest": suggestion.steepest, "lowest": suggestion.lowest}
    rate = None if suggestion is None else suggestion.rate
    figures = {"rates": test.rates.tolist(), "losses": test.losses.tolist()}
    return {"job": job, "suggested": rate, "found": found, "ended": test.ended, "steps": test.steps, **figures}


def chart(test: RangeTest, suggestion: Suggestion | None) -> list[str]:
    """Return the smoothed loss over the rate as lines of text; a column of colons marks the suggested rate."""
    losses = smoothed(test.losses, test.steps)
    top = _top(losses)
    low, span = float(losses.min()), float(top - losses.min()) or 1.0
    places = np.log10(test.rates / test.rates[0]) / (math.log10(test.rates[-1] / test.rates[0]) or 1.0)
    columns = np.rint(places * (COLUMNS - 1)).astype(int)
    grid = [[" "] * COLUMNS for _ in range(LINES)]
    if suggestion is not None:
        marked = int(columns[np.searchsorted(test.rates, suggestion.steepest)])
        for row in grid:
            row[marked] = ":"
    for column, loss in zip(columns, losses, strict=True):
        if loss <= top:
            grid[LINES - 1 - round((loss - low) / span * (LINES - 1))][column] = "*"
    labels = [f"{top:.3g}", *[""] * (LINES - 2), f"{low:.3g}"]
    lines = [f"{label:>9} |{''.join(row).rstrip()}" for label, row in zip(labels, grid, strict=True)]
    first, last = f"{test.rates[0]:.1e}", f"{test.rates[-1]:.1e}"
    return [f"{'loss':>9}", *lines, f"{'':9} +{'-' * COLUMNS}", f"{'':11}{first}{last:>{COLUMNS - len(first)}}"]


def _top(losses: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return the upper limit of the loss axis: a diverging loss would flatten the rest."""
    return min(float(losses.max()), float(losses[0] + 0.5 * (losses[0] - losses.min())) or float(losses.max()))


def as_csv(test: RangeTest) -> str:
    """Return the measured values, one line per step."""
    smooth = smoothed(test.losses, test.steps)
    rows = zip(range(1, len(smooth) + 1), test.rates.tolist(), test.losses.tolist(), smooth.tolist(), strict=True)
    return csv_text(["step", "learning_rate", "loss", "smoothed_loss"], rows)


def draw(job: str, test: RangeTest, suggestion: Suggestion | None, path: Path) -> None:
    """Draw the losses over the rate as PNG."""
    losses = smoothed(test.losses, test.steps)
    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    axes.semilogx(test.rates, test.losses, ".", color="0.75", markersize=4, label="loss of a batch")
    axes.semilogx(test.rates, losses, color="tab:blue", linewidth=2, label="smoothed")
    if suggestion is not None:
        rate, lowest = suggestion.steepest, suggestion.lowest
        axes.axvline(rate, color="tab:orange", label=f"falls fastest: {rate:.1e} (suggested)")
        axes.axvline(lowest, color="0.5", linestyle=":", label=f"lowest: {lowest:.1e}")
        axes.plot(rate, np.interp(math.log(rate), np.log(test.rates), losses), "o", color="tab:orange")
    top, low = _top(losses), float(test.losses.min())
    margin = 0.08 * (top - low) or 0.1 * abs(top) or 1.0
    axes.set_ylim(low - margin, top + margin)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.set_title(f"{job}: learning-rate range test", parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    save_figure(path, figure)
