"""`hpcnn scaling-study`: the command that it comes to, what is refused, and what the same command does again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcnn import scaling_study as command
from tests.tools.test_scaling_page import ALL

Put = Callable[[str, str], Path]
ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "jobs" / "digits_mlp.toml")
STUDY = [DIGITS, "--nodes", "1,2,4", "--tasks-per-node", "2", "--steps", "5", "--out", "study"]


def submit(put: Put) -> None:
    """Submit the study, as job 7."""
    put("squeue", "true")
    put("sbatch", 'case "$*" in *--test-only*) echo "sbatch: Job 7 to start" >&2 ;; *) echo "$@" >args; echo 7 ;; esac')
    assert command.main(STUDY) == 0


def test_a_dry_run_shows_all_and_writes_nothing(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", 'echo "sbatch: Job 5 to start at once" >&2')
    assert command.main([*STUDY, "--time", "30", "--dry-run", "--", "--exclusive"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:6] == [
        "run         strong-1: 2 ranks, batch 64",
        "run         strong-2: 4 ranks, batch 64",
        "run         weak-2: 4 ranks, batch 128",
        "run         strong-4: 8 ranks, batch 64",
        "run         weak-4: 8 ranks, batch 256",
    ]
    assert said[6] == "size        8 ranks on 4 nodes, time 30"
    assert said[8].endswith(
        f" --nodes=4 --ntasks-per-node=2 --time=30 --exclusive {ROOT}/slurm/scaling_study.sbatch {here}/study"
    )
    assert said[9:] == ["Slurm       would take it to start at once", "dry run     nothing was submitted"]
    assert list(here.iterdir()) == []


def test_without_slurm_the_plan_alone_is_written(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", "exit 1")
    assert command.main([*STUDY, "--plan"]) == 0
    assert capsys.readouterr().out.endswith(
        f"plan        {here}/study/study.json; --missing lists its runs, and --measure measures one\n"
    )
    assert command.main(["--missing", "study"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["strong-1 1 2", "strong-2 2 2"]
    submit(put)  # as where Slurm is: the same study goes on
    assert "submitted   job 7" in capsys.readouterr().out


def test_one_job_of_the_largest_size_is_submitted(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    submit(put)
    assert "submitted   job 7; its page will be " in capsys.readouterr().out
    words = Path("args").read_text().split()
    assert words[:3] == ["--parsable", "--job-name=scaling-digits_mlp", f"--comment=hpcnn:{here}/study"]
    assert f"--output={here}/study/logs/slurm-%j.out" in words
    plan = json.loads((here / "study" / "study.json").read_text())
    assert (plan["nodes"], plan["kinds"], plan["steps"]) == ([1, 2, 4], ["strong", "weak"], 5)


def test_the_same_command_again(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    submit(put)
    raw = here / "study" / "raw"
    for one in ALL[:2]:
        (raw / f"{one['run']}.json").write_text(json.dumps(one))
    put("squeue", f"printf '7\\037RUNNING\\037\\0374\\037\\037\\037\\037hpcnn:{here}/study\\037x\\036'")
    capsys.readouterr()
    assert command.main(STUDY) == 0
    said = capsys.readouterr().out
    assert "run         strong-2: 4 ranks, batch 64, done\n" in said
    assert "README.md: 2 of 5 runs\nsubmitted   before: job 7 measures what is missing\n" in said
    put("squeue", "true")
    assert command.main(STUDY) == 0
    assert "submitted   job 7" in capsys.readouterr().out
    for one in ALL:
        (raw / f"{one['run']}.json").write_text(json.dumps(one))
    put("sbatch", "exit 1")
    assert command.main(STUDY) == 0  # nothing is missing
    assert capsys.readouterr().out.endswith("README.md: 5 of 5 runs\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*STUDY, "--set", "train.epochs=2"], "was begun with other values of overrides, settings, and its runs would"),
        ([*STUDY, "--steps", "6"], "was begun with other values of steps, and its runs would not be comparable"),
        ([*STUDY, "--strong", "--without", "ddp"], "was begun with other values of kinds, rivals"),
    ],
)
def test_another_study_in_the_same_folder(
    here: Path, put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    submit(put)
    assert command.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*STUDY, "--nodes", "1,x"], "--nodes 1,x: expected the numbers of nodes to measure"),
        ([*STUDY, "--tasks-per-node", "4"], "16 ranks on 4 nodes are more than the job's 8 gradient shards"),
        ([*STUDY, "--", "--nodes=3"], "--nodes of sbatch follows from the study's --nodes"),
        ([*STUDY, "--", "-n", "3"], "--ntasks of sbatch follows from the study's --nodes"),
        ([*STUDY, "--out", "run"], "is no scaling study. Choose another folder"),
        ([*STUDY, "--out", "a\nb"], "line breaks and control characters can't be passed to Slurm"),
        (["none.toml", *STUDY[1:]], "no job file 'none.toml'"),
        ([*STUDY, "--out", "/proc/study", "--dry-run"], "can't write to '/proc/study' ("),
        (["--missing", "none"], "there is no scaling study in 'none'"),
    ],
)
def test_what_is_refused(
    here: Path, put: Put, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (here / "run").mkdir()
    (here / "run" / "job.toml").touch()
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([DIGITS, "--out", "study"], "--nodes is missing"),
        ([DIGITS, "--nodes", "1,2"], "--out is missing"),
        ([*STUDY, "--steps", "0"], "'0' must be an integer from 1 to"),
        ([*STUDY, "--without", "nccl"], "invalid choice: 'nccl'"),
        ([*STUDY, "--weak", "--strong"], "not allowed with argument"),
    ],
)
def test_arguments(here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


def test_what_slurm_refuses_leaves_nothing(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("squeue", "true")
    put("sbatch", "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1")
    assert command.main([*STUDY, "--partition", "nope"]) == 2
    assert "There is no such partition" in capsys.readouterr().err
    assert list(here.iterdir()) == []
