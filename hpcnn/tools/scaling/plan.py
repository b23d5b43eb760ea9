"""The plan of a scaling study: its runs, the job of each, and the file that keeps them. Needs no NumPy."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from hpcnn.core.conversion import convert
from hpcnn.core.formatting import counted
from hpcnn.errors import HpcnnError, JobError, unknown_name
from hpcnn.job.dump import result_settings
from hpcnn.job.load import LoadedJob, load_job
from hpcnn.job.shards import shards_of
from hpcnn.system.atomic import write_text
from hpcnn.tools.scaling.names import STRONG, WEAK

_SIZES = re.compile(r"[1-9]\d{0,5}(,[1-9]\d{0,5})*")


@dataclass(frozen=True)
class StudyRun:
    """One run: one kind of scaling on one number of nodes."""

    kind: str
    nodes: int

    @property
    def name(self) -> str:
        """Its name, and that of its files."""
        return f"{self.kind}-{self.nodes}"


@dataclass(frozen=True)
class Plan:
    """All that a study measures."""

    job: str
    """The absolute path of the job file."""
    overrides: list[str]
    nodes: list[int]
    """The sizes, ascending."""
    tasks_per_node: int
    kinds: list[str]
    """`STRONG`, `WEAK` or both."""
    steps: int
    """Training steps of each measurement."""
    rivals: list[str]
    batch_size: int
    """Of strong scaling, and of weak scaling on the smallest size; 0: all samples."""
    shards: int
    """As `batch_size`."""
    settings: dict[str, Any]
    """Those of the job that define its result."""

    def runs(self) -> list[StudyRun]:
        """Return the runs by size. On the smallest size, weak and strong scaling are one run."""
        one = STRONG in self.kinds
        return [
            StudyRun(kind, nodes)
            for nodes in self.nodes
            for kind in self.kinds
            if not (one and kind == WEAK and nodes == self.nodes[0])
        ]

    def run(self, name: str) -> StudyRun:
        """Return the run of that name. JobError: there is none."""
        runs = {run.name: run for run in self.runs()}
        if name not in runs:
            unknown_name("run", name, runs)
        return runs[name]

    def ranks(self, run: StudyRun) -> int:
        """Return the number of ranks of a run."""
        return run.nodes * self.tasks_per_node

    def load(self, run: StudyRun) -> LoadedJob:
        """Return the job of a run. JobError: it is invalid."""
        overrides = list(self.overrides)
        if run.kind == WEAK and run.nodes > self.nodes[0]:
            factor = run.nodes // self.nodes[0]
            overrides += [f"train.batch_size={self.batch_size * factor}", f"train.shards={self.shards * factor}"]
        try:
            return load_job(Path(self.job), overrides)
        except HpcnnError as error:
            raise type(error)(f"{run.kind} scaling on {counted(run.nodes, 'node')}: {error}") from None


def parse_sizes(text: str) -> list[int]:
    """Return the numbers of nodes in a text, ascending. JobError: it is something else.

    >>> parse_sizes("1,4,2")
    [1, 2, 4]
    """
    if not _SIZES.fullmatch(text):
        raise JobError(f"--nodes {text}: expected the numbers of nodes to measure, as 1,2,4,8")
    sizes = sorted({int(size) for size in text.split(",")})
    if len(sizes) < 2:
        raise JobError(f"--nodes {text}: scaling takes at least two different numbers of nodes, as 1,2,4,8")
    return sizes


def make_plan(
    loaded: LoadedJob,
    overrides: Sequence[str],
    *,
    nodes: str,
    tasks_per_node: int,
    kinds: Sequence[str],
    steps: int,
    rivals: Sequence[str],
) -> Plan:
    """Return the plan for a job, after all checks that need neither data nor Slurm. JobError: it is invalid."""
    sizes, job = parse_sizes(nodes), loaded.job
    shards = shards_of(job)
    if shards is None:
        raise JobError(
            "the number of gradient shards follows from the number of samples (train.batch_size = full): a study must "
            f"know it beforehand. Set it: --set train.shards={sizes[-1] * tasks_per_node}"
        )
    plan = Plan(
        job=str(loaded.path.absolute()),
        overrides=list(overrides),
        nodes=sizes,
        tasks_per_node=tasks_per_node,
        kinds=list(kinds),
        steps=steps,
        rivals=list(rivals),
        batch_size=0 if job.train.batch_size == "full" else job.train.batch_size,
        shards=shards,
        settings=json.loads(msgspec.json.encode(result_settings(job))),
    )
    _check_ranks(plan)
    if STRONG in kinds and job.train.compression != "none" and job.train.compression_groups == "auto":
        raise JobError(
            "train.compression_groups = auto follows from the number of nodes, and with it the result: runs on several "
            f"numbers of nodes could not be compared. Set it: --set train.compression_groups={sizes[-1]}"
        )
    if WEAK in kinds:
        _check_weak(plan)
    for run in plan.runs():
        plan.load(run)
    return plan


def _check_ranks(plan: Plan) -> None:
    largest = plan.nodes[-1 if STRONG in plan.kinds else 0]
    ranks = largest * plan.tasks_per_node
    if ranks > plan.shards:
        raise JobError(
            f"{counted(ranks, 'rank')} on {counted(largest, 'node')} are more than the job's "
            f"{counted(plan.shards, 'gradient shard')} (train.shards), and some would have nothing to do. Set "
            f"--set train.shards={ranks}, which is another result, or give fewer --nodes or --tasks-per-node."
        )


def _check_weak(plan: Plan) -> None:
    if not plan.batch_size:
        raise JobError(
            "weak scaling gives each node the same number of samples a step, and can't with train.batch_size = full. "
            "Set a number, as --set train.batch_size=128, or give --strong."
        )
    uneven = [size for size in plan.nodes if size % plan.nodes[0]]
    if uneven:
        raise JobError(
            f"weak scaling multiplies the batch of {counted(plan.nodes[0], 'node')}: {uneven[0]} nodes are no multiple "
            "of that. Give multiples of the smallest --nodes, or --strong."
        )


@dataclass(frozen=True)
class StudyFiles:
    """The files of a study in its folder."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.path / "study.json"

    @property
    def raw(self) -> Path:
        """The folder of the figures of each run."""
        return self.path / "raw"

    @property
    def logs(self) -> Path:
        """The folder of what the Slurm jobs print."""
        return self.path / "logs"

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / "README.md"

    def figures(self, run: StudyRun) -> Path:
        """Return the file with the figures of a run, once it is done."""
        return self.raw / f"{run.name}.json"

    def missing(self, plan: Plan) -> list[StudyRun]:
        """Return the runs that are yet to be measured."""
        return [run for run in plan.runs() if not self.figures(run).is_file()]

    def write_plan(self, plan: Plan) -> None:
        """Write the plan. OSError: it can't be written."""
        self.raw.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        write_text(self.plan, json.dumps(asdict(plan), indent=1) + "\n")

    def read_plan(self) -> Plan:
        """Return the plan. JobError: there is none, or it is damaged."""
        try:
            return convert(msgspec.json.decode(self.plan.read_bytes()), Plan)
        except FileNotFoundError:
            raise JobError(
                f"there is no scaling study in {str(self.path)!r}: no {self.plan.name}. Submit one: "
                "hpcnn scaling-study JOB --nodes 1,2,4 --out DIR; with --plan it is only written."
            ) from None
        except (OSError, msgspec.MsgspecError) as error:
            raise JobError(
                f"the plan of the study {str(self.plan)!r} can't be read: {error}. Begin again with another --out."
            ) from None
