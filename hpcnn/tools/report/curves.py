"""Which charts a report has: the curves of each, apart from how they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpcnn.core.critical_batch import NOISE_SCALE
from hpcnn.tools.report.record import VALIDATION, Points, RunRecord

STYLES = 8
"""Number of curves with a colour of their own; those after them are grey."""


@dataclass(frozen=True)
class Curve:
    """One line of a chart."""

    name: str
    points: Points
    style: int
    """Which colour; those from `STYLES` on are grey."""

    @property
    def known(self) -> list[float]:
        """All finite values."""
        return [value for _, value in self.points if value is not None]


@dataclass(frozen=True)
class Chart:
    """Some curves over the same epochs."""

    title: str
    curves: Sequence[Curve]
    """The first one is drawn on top."""
    from_zero: bool = False
    """Let the axis begin at 0, so that one sees how much the values really vary."""


def charts_of_run(run: RunRecord, most: int | None = None) -> Iterator[Chart]:
    """Yield the charts of loss and metrics, `most` of them, of learning rate, throughput and noise scale."""
    for name in run.values[:most]:
        both = (("training", name, 0), ("validation", VALIDATION + name, 1))
        yield Chart(name, [Curve(label, run.points(full), style) for label, full, style in both if run.has(full)])
    for style, name in enumerate(("learning_rate", "samples_per_s"), 2):
        if points := run.points(name):
            yield Chart(spelled(name), [Curve(spelled(name), points, style)], from_zero=True)
    if points := run.points(NOISE_SCALE):
        curves = [Curve("noise scale", points, 0)]
        if (batch := run.batch_size) is not None:
            curves.append(Curve("batch size", [(epoch, batch) for epoch, _ in points], 1))
        yield Chart("noise scale, samples", curves, from_zero=True)


def charts_of_runs(runs: Sequence[RunRecord], names: Sequence[str]) -> Iterator[Chart]:
    """Yield the charts that compare several runs."""
    for value in dict.fromkeys(value for run in runs for value in run.values):
        for full, samples in ((VALIDATION + value, "validation"), (value, "training")):
            if curves := _of_each(runs, names, full):
                yield Chart(f"{value}, {samples}", curves)
    for name in ("learning_rate", "samples_per_s"):
        if curves := _of_each(runs, names, name):
            yield Chart(spelled(name), curves, from_zero=True)


def _of_each(runs: Sequence[RunRecord], names: Sequence[str], value: str) -> list[Curve]:
    curves = [Curve(name, run.points(value), style) for style, (run, name) in enumerate(zip(runs, names, strict=True))]
    return [curve for curve in curves if curve.points]


def spelled(name: str) -> str:
    """Return the name of a column as people write it.

    >>> spelled("learning_rate"), spelled("samples_per_s")
    ('learning rate', 'samples/s')
    """
    return name.replace("_per_", "/").replace("_", " ")
