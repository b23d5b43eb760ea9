"""The plan of a scaling study: its runs, their jobs, what is refused, and what is left to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcnn.errors import HpcnnError, JobError
from hpcnn.job.load import load_job
from hpcnn.tools.scaling.names import RIVALS
from hpcnn.tools.scaling.plan import Plan, StudyFiles, StudyRun, make_plan, parse_sizes

DIGITS = Path(__file__).parents[2] / "jobs" / "digits_mlp.toml"


def plan_of(*overrides: str, **changes: Any) -> Plan:
    """Return a plan for the digits job: batches of 64 in 8 gradient shards."""
    asked = {"nodes": "1,2,4", "tasks_per_node": 2, "kinds": ["strong", "weak"], "steps": 5, "rivals": RIVALS}
    return make_plan(load_job(DIGITS, overrides), overrides, **(asked | changes))


def test_both_kinds_share_the_smallest_size() -> None:
    plan = plan_of()
    assert [run.name for run in plan.runs()] == ["strong-1", "strong-2", "weak-2", "strong-4", "weak-4"]
    assert [plan.ranks(run) for run in plan.runs()] == [2, 4, 4, 8, 8]
    assert plan.run("weak-4") == StudyRun("weak", 4)


@pytest.mark.parametrize("kind", ["strong", "weak"])
def test_one_kind_alone(kind: str) -> None:
    assert [run.name for run in plan_of(kinds=[kind]).runs()] == [f"{kind}-{nodes}" for nodes in (1, 2, 4)]


def test_strong_scaling_trains_the_job_as_it_is_and_weak_scaling_more_of_it() -> None:
    plan = plan_of("train.epochs=3")
    trains = {run.name: plan.load(run).job.train for run in plan.runs()}
    assert {train.epochs for train in trains.values()} == {3}
    assert {name: (train.batch_size, train.shards) for name, train in trains.items()} == {
        "strong-1": (64, 8), "strong-2": (64, 8), "strong-4": (64, 8), "weak-2": (128, 16), "weak-4": (256, 32)
    }  # fmt: skip


def test_weak_scaling_alone_needs_shards_for_the_smallest_size_only() -> None:
    plan = plan_of(kinds=["weak"], nodes="2,8,32", tasks_per_node=4)
    assert [plan.load(run).job.train.shards for run in plan.runs()] == [8, 32, 128]


@pytest.mark.parametrize("text", ["", "0", "1,,2", "two", "1,-2", "1-4", "1,2,", "9999999"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(JobError, match=r"--nodes .*: expected the numbers of nodes to measure, as 1,2,4,8"):
        parse_sizes(text)


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        ([], {"nodes": "4,4"}, r"at least two different numbers of nodes"),
        ([], {"tasks_per_node": 3}, r"12 ranks on 4 nodes are more than the job's 8 .*--set train.shards=12"),
        ([], {"kinds": ["weak"], "tasks_per_node": 9}, r"9 ranks on 1 node are more than the job's 8 gradient shards"),
        ([], {"nodes": "2,3"}, r"3 nodes are no multiple of that. Give multiples of the smallest --nodes, or --strong"),
        (["train.batch_size=full"], {}, r"can't with train.batch_size = full. Set a number.*or give --strong"),
        (
            ["train.batch_size=full", "train.shards=auto"],
            {"kinds": ["strong"]},
            r"a study must know it beforehand. Set it: --set train.shards=8",
        ),
        (["train.compression=bf16"], {}, r"could not be compared. Set it: --set train.compression_groups=4"),
        ([], {"nodes": "1,100000"}, r"weak scaling on 100,000 nodes: .*train.shards|more than the job's 8"),
        ([], {"kinds": ["weak"], "nodes": "1,100000"}, r"weak scaling on 100,000 nodes: .*train.shards"),
    ],
)
def test_what_is_refused(overrides: list[str], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HpcnnError, match=message) as caught:
        plan_of(*overrides, **changes)
    assert caught.value.exit_code == 2


def test_a_full_batch_and_fixed_groups_can_scale_strongly() -> None:
    settings = ["train.batch_size=full", "train.compression=bf16", "train.compression_groups=4"]
    assert plan_of(*settings, kinds=["strong"]).batch_size == 0


def test_a_plan_is_read_as_it_was_written_and_what_is_done_is_not_missing(tmp_path: Path) -> None:
    files, plan = StudyFiles(tmp_path / "study"), plan_of("train.epochs=3")
    files.write_plan(plan)
    assert files.read_plan() == plan
    assert files.missing(plan) == plan.runs()
    files.figures(plan.run("strong-2")).write_text("{}")
    assert [run.name for run in files.missing(plan)] == ["strong-1", "weak-2", "strong-4", "weak-4"]


def test_no_plan_and_a_damaged_one(tmp_path: Path) -> None:
    files = StudyFiles(tmp_path)
    with pytest.raises(JobError, match=r"there is no scaling study in .*: no study.json. Submit one: hpcnn scaling"):
        files.read_plan()
    files.write_plan(plan_of())
    for text in ("{", "{}", files.plan.read_text().replace('"steps": 5', '"steps": "five"')):
        files.plan.write_text(text)
        with pytest.raises(JobError, match=r"study.json' can't be read: .*Begin again with another --out"):
            files.read_plan()


def test_an_unknown_run() -> None:
    with pytest.raises(JobError, match=r"unknown run 'strong-3'. Did you mean 'strong-2'\?|unknown run 'strong-3'"):
        plan_of().run("strong-3")
