"""The figures of `bench step`: a table, JSON, a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcnn.core.formatting import counted, three_digits
from hpcnn.tools.bench.step import PHASES, RankTimes, StepTimes
from hpcnn.tools.outputs import print_table
from hpcnn.tools.pictures import new_figure, save_figure

ALL_RANKS = 16
"""Largest number of ranks with a row each."""
SLOWEST = 5


def show(times: StepTimes, job: str, warnings: list[str]) -> None:
    """Print the table."""
    ranks, chosen = times.ranks, shown_ranks(times)
    rows = [_row(str(one.rank), one.host, one.seconds, times.steps) for one in chosen]
    if len(ranks) > 1:
        rows.append(_row("median", "", times.typical, times.steps))
    each = f", the {SLOWEST} slowest and the fastest" if len(chosen) < len(ranks) else ""
    steps, on = counted(times.steps, "step"), counted(len(ranks), "rank")
    title = f"{job}: ms per step and share, by phase, over {steps} on {on}{each}"
    print_table(title, ("rank", "host", *PHASES), rows, [*_sentences(times), *warnings])


def shown_ranks(times: StepTimes) -> list[RankTimes]:
    """Return all ranks if they are few, else the slowest and the fastest."""
    if len(times.ranks) <= ALL_RANKS:
        return times.ranks
    by_busy = sorted(times.ranks, key=lambda rank: -rank.busy)
    return [*by_busy[:SLOWEST], by_busy[-1]]


def _row(rank: str, host: str, seconds: Mapping[str, float], steps: int) -> tuple[str, ...]:
    total = sum(seconds.values())
    return (
        rank,
        host,
        *(f"{three_digits(seconds[phase] / steps * 1e3)} {seconds[phase] / total:4.0%}" for phase in PHASES),
    )


def _sentences(times: StepTimes) -> list[str]:
    step, rate = _ms(times.total, times), times.samples / times.total
    speed = f"{step} ms per step, {rate:,.0f} samples/s over all ranks"
    if len(times.ranks) == 1:
        return [speed]
    slowest = times.slowest
    return [
        speed,
        f"slowest: rank {slowest.rank} on {slowest.host}, busy for {_ms(slowest.busy, times)} ms per step, "
        f"{times.slowness:.2f} times the median",
    ]


def _ms(seconds: float, times: StepTimes) -> str:
    return three_digits(seconds / times.steps * 1e3)


def as_json(times: StepTimes, job: str) -> dict[str, Any]:
    """Return the raw figures: each rank's seconds over all steps, by phase."""
    return {
        "benchmark": "step",
        "job": job,
        "steps": times.steps,
        "samples": times.samples,
        "seconds": times.total,
        "by_rank": [one.seconds for one in times.ranks],
        "slowest_rank": times.slowest.rank,
    }


def plot(times: StepTimes, job: str, path: Path) -> None:
    """Draw a stacked bar per rank, by phase."""
    chosen = shown_ranks(times)
    figure = new_figure(8, 1.5 + 0.3 * len(chosen))
    axes = figure.subplots()
    names = [f"rank {one.rank}" for one in chosen]
    left = [0.0] * len(chosen)
    for phase in PHASES:
        widths = [one.seconds[phase] / times.steps * 1e3 for one in chosen]
        axes.barh(names, widths, left=left, label=phase, color="lightgrey" if phase == "wait" else None)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("ms per step")
    axes.set_title(job)
    figure.legend(loc="outside right upper")
    save_figure(path, figure)
