"""What the raw figures of a scaling study come to: medians, efficiency, hashes. Needs no NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from hpcnn.core.formatting import counted, three_digits
from hpcnn.errors import JobError
from hpcnn.tools.scaling.names import ALLREDUCE, DDP, HOROVOD, HPCNN, LABELS, STRONG
from hpcnn.tools.scaling.plan import Plan, StudyFiles


@dataclass(frozen=True)
class Figures:
    """The figures of one run."""

    raw: Mapping[str, Any]

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return int(self.raw["nodes"])

    @property
    def ranks(self) -> int:
        """The number of ranks."""
        return int(self.raw["environment"]["ranks"])

    def has(self, side: str) -> bool:
        """Return whether a side was measured."""
        return side in self.raw["sides"]

    def step_ms(self, side: str) -> list[float]:
        """Return milliseconds a step, of each measurement."""
        measured = self.raw["sides"][side]
        steps = self.raw["steps"]
        return [1000 * seconds / steps for seconds in measured["seconds"]]

    def rate(self, side: str) -> float:
        """Return samples per second over all ranks, the median over the measurements."""
        measured = self.raw["sides"][side]
        pairs = zip(measured["samples"], measured["seconds"], strict=True)
        return float(median(samples / seconds for samples, seconds in pairs))

    def ratio(self, side: str) -> float:
        """Return the time of another side as a multiple of hpcnn's.

        That is the median over the pairs of measurements that follow each other; of Horovod, which is measured after
        the others, the ratio of the medians.
        """
        own, other = self.step_ms(HPCNN), self.step_ms(side)
        if side == HOROVOD:
            return median(other) / median(own)
        return median(b / a for a, b in zip(own, other, strict=True))

    def sha256(self, side: str = HPCNN) -> str:
        """Return the hash of the weights after all steps."""
        return str(self.raw["sides"][side]["weights_sha256"])


@dataclass(frozen=True)
class Study:
    """The runs of a study that are done."""

    plan: Plan
    runs: Mapping[str, Figures]
    """By name."""

    def of_kind(self, kind: str) -> list[Figures]:
        """Return the runs of a kind of scaling by size; on the smallest, both kinds are one run."""
        base = self.plan.nodes[0]
        names = (
            f"{STRONG if nodes == base and STRONG in self.plan.kinds else kind}-{nodes}" for nodes in self.plan.nodes
        )
        return [self.runs[name] for name in names if name in self.runs]

    def sides(self) -> list[str]:
        """Return the sides that were measured in any run."""
        return [side for side in (HPCNN, ALLREDUCE, DDP, HOROVOD) if any(run.has(side) for run in self.runs.values())]

    def base_rate(self, kind: str, side: str) -> float | None:
        """Return the rate on the smallest size; None if it is not measured.

        Of one rank, which exchanges nothing, hpcnn's rate is also that of other exchanges.
        """
        run = next((run for run in self.of_kind(kind) if run.nodes == self.plan.nodes[0]), None)
        if run is None:
            return None
        if run.has(side):
            return run.rate(side)
        return run.rate(HPCNN) if run.ranks == 1 and side in (ALLREDUCE, HOROVOD) else None

    def efficiency(self, kind: str, run: Figures, side: str) -> float | None:
        """Return the rate of a run over that of the smallest size times the nodes; None if either is not measured."""
        base = self.base_rate(kind, side)
        if base is None or not run.has(side):
            return None
        return run.rate(side) / (base * run.nodes / self.plan.nodes[0])

    def strong_hashes(self, side: str = HPCNN) -> dict[int, str]:
        """Return the hash of each strong-scaling run that has one, by its number of nodes."""
        if STRONG not in self.plan.kinds:
            return {}
        return {run.nodes: run.sha256(side) for run in self.of_kind(STRONG) if run.has(side)}


def read_study(files: StudyFiles) -> Study:
    """Return the study in a folder. JobError: there is none, or a file of it is damaged."""
    plan, runs = files.read_plan(), {}
    for run in plan.runs():
        path = files.figures(run)
        if not path.is_file():
            continue
        try:
            figures = Figures(json.loads(path.read_text(encoding="utf-8")))
            _ = figures.ranks, figures.rate(HPCNN), figures.step_ms(HPCNN), figures.sha256()
        except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
            raise JobError(
                f"the figures in {str(path)!r} can't be read ({type(error).__name__}: {error}). Remove the file, and "
                "submit the study again, which measures that run anew."
            ) from None
        runs[run.name] = figures
    return Study(plan, runs)


def summary(raw: Mapping[str, Any]) -> str:
    """Return the figures of a run as one line."""
    run = Figures(raw)
    sides = [f"{LABELS[side]} {three_digits(median(run.step_ms(side)))} ms a step" for side in raw["sides"]]
    left_out = [f"without {LABELS[side]}: {why}" for side, why in raw["left_out"].items()]
    where = f"{raw['run']}, {counted(run.ranks, 'rank')}"
    return "; ".join([f"{where}: {', '.join(sides)}, weights sha256 {run.sha256()}", *left_out])
