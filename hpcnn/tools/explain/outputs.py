"""Explanations as tables in the terminal and as CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpcnn.core.formatting import csv_text
from hpcnn.tools.explain.gradients import Attribution
from hpcnn.tools.explain.inputs import ExplainedRows, Names
from hpcnn.tools.explain.permutation import Importance
from hpcnn.tools.outputs import print_table

SHOWN = 20
"""Rows of a table in the terminal."""
NAMED = 3
"""Features named per sample."""
LARGE_GAP = 0.05
"""Largest gap as a fraction of the change of the output without a warning."""


def names_of(names: Names | None, shape: tuple[int, ...]) -> Names:
    """Return the names of the features, by default their positions in the input, counted from 0.

    >>> names_of(None, (3,)), names_of(None, (2, 2))
    (('x0', 'x1', 'x2'), ('x0_0', 'x0_1', 'x1_0', 'x1_1'))
    """
    return names or tuple("x" + "_".join(map(str, place)) for place in np.ndindex(shape))


def show_attributions(title: str, chosen: ExplainedRows, found: Sequence[Attribution], baseline: str) -> None:
    """Print a table with a row per sample: the output, the sum of the attributions, and the largest ones."""
    integrated = any(not math.isnan(each.baseline_output) for each in found)
    columns = ["row", "target", "output", *(["at baseline", "sum", "gap"] if integrated else []), "most"]
    rows = []
    for number, each in list(zip(chosen.numbers.tolist(), found, strict=True))[:SHOWN]:
        sums = [f"{value:.4g}" for value in (each.baseline_output, each.values.sum())] + [f"{each.gap:.1e}"]
        rows.append(
            [str(number), str(each.target), f"{each.output:.4g}", *(sums if integrated else []), _most(chosen, each)]
        )
    notes = [f"{len(found) - SHOWN} more rows are not shown"] if len(found) > SHOWN else []
    if integrated:
        notes.append(f"baseline: {baseline}; sum: of the attributions, output - at baseline but for the gap")
        notes += _gap_note(found)
    print_table(title, columns, rows, notes)


def _gap_note(found: Sequence[Attribution]) -> list[str]:
    wide = [each for each in found if abs(each.gap) > LARGE_GAP * abs(each.output - each.baseline_output)]
    if not wide:
        return []
    return [f"warning: {len(wide)} of {len(found)} gaps are above {LARGE_GAP:.0%} of the rise: give more --steps"]


def _most(chosen: ExplainedRows, found: Attribution) -> str:
    values = found.values.reshape(-1)
    names = names_of(chosen.names, found.values.shape)
    largest = np.argsort(-np.abs(values), kind="stable")[:NAMED]
    return ", ".join(f"{names[place]} {values[place]:.2g}" for place in largest)


def attributions_csv(chosen: ExplainedRows, found: Sequence[Attribution]) -> str:
    """Return a CSV row per sample: row, target, output, output at the baseline, and each input's attribution."""
    names = names_of(chosen.names, chosen.shape)
    rows = (
        [number, each.target, each.output, "" if math.isnan(each.baseline_output) else each.baseline_output,
         *each.values.reshape(-1).tolist()]
        for number, each in zip(chosen.numbers.tolist(), found, strict=True)
    )  # fmt: skip
    return csv_text(["row", "target", "output", "output_at_baseline", *names], rows)


def ranked(importance: Importance) -> list[int]:
    """Return the features, most important first."""
    return [int(place) for place in np.argsort(-importance.mean, kind="stable")]


def show_importance(title: str, chosen: ExplainedRows, importance: Importance) -> None:
    """Print a table with a row per feature, most important first."""
    mean, spread = importance.mean, importance.spread
    names = names_of(chosen.names, chosen.shape)
    rows = [[names[place], f"{mean[place]:.4g}", f"{spread[place]:.2g}"] for place in ranked(importance)[:SHOWN]]
    rest = [f"{mean.size - SHOWN} more features are not shown"] if mean.size > SHOWN else []
    repeats = importance.worse.shape[1]
    notes = [*rest, f"mean and standard deviation of {repeats} shuffles; {importance.score} is {importance.value:.6g}"]
    print_table(title, ["feature", f"{importance.score} worse by", "+-"], rows, notes)


def importance_csv(chosen: ExplainedRows, importance: Importance) -> str:
    """Return a CSV row per feature, in order: name, mean, standard deviation, and each repeat."""
    mean, spread = importance.mean, importance.spread
    names = names_of(chosen.names, chosen.shape)
    repeats = [f"repeat_{repeat}" for repeat in range(1, importance.worse.shape[1] + 1)]
    rows = ([names[i], mean[i], spread[i], *importance.worse[i].tolist()] for i in range(mean.size))
    return csv_text(["feature", f"{importance.score}_worse_by", "deviation", *repeats], rows)
