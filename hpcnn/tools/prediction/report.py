"""The figures of `hpcnn predict-scaling`: tables, sentences, JSON, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcnn.core.critical_batch import critical_batch
from hpcnn.core.formatting import approximate_size, counted, percent, three_digits
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.steps import COMPUTE, NETWORK, PAYS, SUMS, UPDATE, Cluster, Scaling, most_that_pay
from hpcnn.system.output import write_line
from hpcnn.tools.outputs import print_table
from hpcnn.tools.pictures import new_figure, save_figure

PARTS = (COMPUTE, UPDATE, SUMS, NETWORK)
_COLUMNS = ("nodes", "ranks", "batch", "step ms", *PARTS, "efficiency", "exchange", "sent/rank", "memory/rank")


@dataclass(frozen=True)
class Prediction:
    """All that is predicted of a job."""

    job: str
    cluster: Cluster
    compute: Compute
    weak: Scaling
    """Each rank has as many samples."""
    strong: Scaling
    """All ranks share the first number's batch; ends where a rank would have no sample."""
    noise_scale: float | None = None
    """Of a run, in samples."""
    notes: Sequence[str] = ()


def show(found: Prediction) -> None:
    """Print the tables and what follows from them."""
    tasks = counted(found.cluster.tasks, "rank")
    first = found.weak.steps[0]
    each = first.batch // first.ranks
    _table(f"{found.job}: weak scaling, {tasks} a node, {counted(each, 'sample')} a rank", found.weak, ())
    write_line("")
    notes = [*sentences(found), *found.notes]
    _table(f"{found.job}: strong scaling, all ranks share a batch of {first.batch:,}", found.strong, notes)


def _table(title: str, scaling: Scaling, notes: Sequence[str]) -> None:
    rows = [
        (
            f"{step.nodes:,}",
            f"{step.ranks:,}",
            f"{step.batch:,}",
            three_digits(step.seconds * 1e3),
            *(three_digits(step.parts[part] * 1e3) for part in PARTS),
            percent(efficiency),
            step.algorithm,
            approximate_size(round(step.sent_bytes)),
            approximate_size(step.memory_bytes),
        )
        for step, efficiency in zip(scaling.steps, scaling.efficiencies, strict=True)
    ]
    print_table(title, _COLUMNS, rows, notes)


def sentences(found: Prediction) -> list[str]:
    """Return how many nodes pay."""
    said = [
        _limit("weak scaling", found.weak, found.weak.efficiencies),
        _limit("strong scaling", found.strong, found.strong.efficiencies),
    ]
    if found.noise_scale is not None:
        said.append(f"critical batch {critical_batch(found.noise_scale, found.weak.steps[0].batch)}")
        said.append(
            _limit("with batches that grow, to the same loss", found.weak, found.weak.towards(found.noise_scale))
        )
    return said


def _limit(what: str, scaling: Scaling, efficiencies: Sequence[float]) -> str:
    steps, last = scaling.steps, most_that_pay(scaling.steps, efficiencies)
    verb = "pays" if steps[last].nodes == 1 else "pay"
    said = f"{what}: {counted(steps[last].nodes, 'node')} {verb}"
    if last + 1 == len(steps):
        return f"{said}, the most that were asked for, at an efficiency of {percent(efficiencies[last])}"
    return f"{said}; {steps[last + 1].nodes:,} waste {percent(1 - efficiencies[last + 1])} of their time"


def as_json(found: Prediction) -> dict[str, Any]:
    """Return all figures, in seconds and bytes."""
    figures = {
        "job": found.job,
        "network": asdict(found.cluster.machine),
        "tasks_per_node": found.cluster.tasks,
        "compute": asdict(found.compute),
        "noise_scale": found.noise_scale,
    }
    for name, scaling in (("weak", found.weak), ("strong", found.strong)):
        rows = [
            {**asdict(step), "seconds": step.seconds, "efficiency": efficiency}
            for step, efficiency in zip(scaling.steps, scaling.efficiencies, strict=True)
        ]
        if name == "weak" and found.noise_scale is not None:
            for row, efficiency in zip(rows, scaling.towards(found.noise_scale), strict=True):
                row["efficiency_to_the_same_loss"] = efficiency
        figures[name] = rows
    return figures


def plot(found: Prediction, path: Path) -> None:
    """Draw efficiencies over nodes."""
    figure = new_figure(7, 4.5)
    axes = figure.subplots()
    curves = [
        ("weak", "o-", found.weak, found.weak.efficiencies),
        ("strong", "s-", found.strong, found.strong.efficiencies),
    ]
    if found.noise_scale is not None:
        curves.append(("to the same loss, batches that grow", "^-", found.weak, found.weak.towards(found.noise_scale)))
    for label, style, scaling, values in curves:
        axes.plot([step.nodes for step in scaling.steps], values, style, label=label)
    axes.axhline(PAYS, color="grey", linestyle=":")
    nodes = [step.nodes for step in found.weak.steps]
    axes.set_xscale("log", base=2)
    axes.set_xticks(nodes, [f"{each:,}" for each in nodes])
    axes.set_ylim(0, 1.05)
    axes.set_xlabel(f"nodes of {counted(found.cluster.tasks, 'rank')}")
    axes.set_ylabel("efficiency")
    axes.set_title(found.job)
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(path, figure)
