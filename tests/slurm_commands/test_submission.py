"""A submission: the command that it comes to, and what is found out before Slurm is asked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpcnn import submit as command
from hpcnn.errors import CheckpointError, HpcnnError, JobError
from hpcnn.slurm.batch_scripts import find_template, templates_folder
from hpcnn.slurm.messages import SlurmError
from hpcnn.slurm.queue import QueuedJob
from hpcnn.slurm.submission import SubmissionRequest, check_free, prepare, submit

Put = Callable[[str, str], Path]
ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "jobs" / "digits_mlp.toml"
RATES = ROOT / "slurm" / "learning_rates.toml"
AUTOMATIC = ["train.shards=auto", "train.arithmetic=numpy"]
REQUEST = SubmissionRequest(DIGITS, options=["--time=5", "--nodes=2"])


def test_the_command(here: Path) -> None:
    submission = prepare(replace(REQUEST, overrides=["train.epochs=3"], name="my job", after=["7", "8"]))
    run = here / "runs" / "digits_mlp"
    assert submission.command == [
        *("sbatch", "--parsable", "--job-name=my job", f"--comment=hpcnn:{run}"),
        *(f"--output={run}/logs/slurm-%j.out", "--open-mode=append"),
        *("--dependency=afterok:7:8", "--kill-on-invalid-dep=yes", "--time=5", "--nodes=2"),
        *(str(ROOT / "slurm" / "train.sbatch"), str(DIGITS), "--out", str(run), "--set", "train.epochs=3"),
    ]
    assert submission.environ["HPCNN_SLURM_DIR"] == str(ROOT / "slurm")
    assert not run.exists()


def test_a_sweep_is_one_array(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", "true")
    arguments = [str(DIGITS), "--sweep", str(RATES), "--at-once", "2", "--time", "5", "--dry-run", "--out", "50%"]
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    run = here / "50%"
    assert "6 runs, each 2 ranks on 1 node" in said
    assert " --array=0-5%2 " in said
    assert f"--output={here}/50%%/logs/slurm-%A_%a.out" in said
    words = (f"{ROOT}/slurm/sweep.sbatch", f"{run}/sweep.toml", str(DIGITS), "--out", str(run))
    assert shlex.join(words) in said
    assert not run.exists()


def test_what_slurm_says_of_a_dry_run(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", 'echo "$@" >args; echo "sbatch: Job 5 to start at once" >&2')
    assert command.main([str(DIGITS), "--time", "5", "--dry-run", "--", "--exclusive", "-n", "3"]) == 0
    said = capsys.readouterr().out
    assert "3 ranks on 2 nodes" in said
    assert "Slurm       would take it to start at once\ndry run     nothing was submitted" in said
    assert Path("args").read_text().startswith("--test-only --parsable --job-name=digits_mlp ")
    assert "--time=5 --exclusive -n 3 /" in Path("args").read_text()


def test_a_refusal_is_one_message(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("squeue", "true")
    put("sbatch", "echo 'allocation failure: Invalid feature specification' >&2; exit 1")
    assert command.main([str(DIGITS), "--time", "5"]) == 2
    assert capsys.readouterr().err == (
        "hpcnn: error: sbatch: Invalid feature specification. No node has such a feature. "
        "`sinfo -o '%P %f'` lists them.\n"
    )
    assert list(here.iterdir()) == []


# ------------------------------------------------------------------------------------------------ checks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"job": Path("none.toml")}, "no job file 'none.toml'"),
        ({"overrides": ["train.epochs=0"]}, "train.epochs"),
        ({"template": "trian"}, r"unknown template 'trian'. Did you mean 'train'\?"),
        ({"template": "./mine.sbatch"}, "--template ./mine.sbatch: no such file"),
        ({"template": "scaling_study"}, "it takes a study, not a job. Submit one by: hpcnn scaling-study JOB"),
        ({"template": "evaluate"}, "it takes a run, not a job. Submit it by: sbatch --dependency=afterok"),
        ({"options": ["--time=5", "--nodes=4-2"]}, "--nodes 4-2: expected a number"),
        ({"options": ["--time=5", "--ntasks-per-node=5"]}, r"10 ranks on 2 nodes, but has 8 gradient shards"),
        ({"options": ["--time=5", "--nodes=2-5"]}, r"at most 10 ranks on 2 to 5 nodes, but has 8"),
        ({"options": ["--time="]}, r"no wall time is given. Set it, for example --time 1:00:00"),
        ({"overrides": AUTOMATIC, "options": ["--nodes=1-5"]}, r"at most 10 ranks on 1 to 5 nodes, but has 8"),
        ({"out": Path("a\nb")}, "line breaks and control characters"),
        ({"resume": True}, "needs the folder of the run: --out"),
        ({"resume": True, "out": Path("new")}, r"there is no run in .*new"),
        ({"sweep": Path("none.toml")}, "can't read the sweep file"),
    ],
)
def test_what_is_refused(here: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(HpcnnError, match=message) as caught:
        prepare(replace(REQUEST, **change))  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("nodes", ["2", "4", "1-4"])
def test_as_many_ranks_as_shards_are_fine(here: Path, nodes: str) -> None:
    assert prepare(replace(REQUEST, options=[f"--nodes={nodes}"])).size.ranks <= 8


def test_automatic_shards_need_no_fixed_number_of_nodes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(replace(REQUEST, overrides=AUTOMATIC, options=["--nodes=1-2"])).size.ranks == 4
    full = replace(REQUEST, overrides=[*AUTOMATIC, "train.batch_size=full"], options=["--nodes=50"])
    assert prepare(full).size.ranks == 100  # the run itself counts its data
    for more, shards in ([], "8"), (["train.batch_size=full"], "automatic"):
        options = [word for setting in (*AUTOMATIC, *more) for word in ("--set", setting)]
        assert command.main([str(DIGITS), *options, "--time=5", "--dry-run"]) == 0
        assert f"(digits_mlp), {shards} gradient shards" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["[train]\nshards = 3\n", "train.shards = 3"])
def test_automatic_shards_of_a_run_that_goes_on_are_those_of_its_start(here: Path, text: str) -> None:
    (here / "run").mkdir()
    (here / "run" / "job.toml").write_text(text)
    go_on = replace(REQUEST, overrides=AUTOMATIC, out=Path("run"), resume=True)
    with pytest.raises(JobError, match=r"4 ranks on 2 nodes, but has 3 gradient shards"):
        prepare(go_on)
    assert prepare(replace(go_on, options=["--nodes=1", "--ntasks=3"])).size.ranks == 3


@pytest.mark.parametrize("text", ["", "train = 3", "train.shards = 'auto'", "no TOML"])
def test_a_run_that_recorded_no_shards_has_those_of_the_job(here: Path, text: str) -> None:
    (here / "run").mkdir()
    (here / "run" / "job.toml").write_text(text)
    go_on = replace(REQUEST, overrides=AUTOMATIC, out=Path("run"), resume=True, options=["--nodes=5"])
    with pytest.raises(JobError, match=r"10 ranks on 5 nodes, but has 8 gradient shards"):
        prepare(go_on)


def test_a_template_of_ones_own_finds_the_shared_code(here: Path) -> None:
    Path("mine.sbatch").write_text("#!/bin/bash\n#SBATCH -t 5\n")
    submission = prepare(SubmissionRequest(DIGITS, template="./mine.sbatch"))
    assert (submission.template, submission.environ["HPCNN_SLURM_DIR"]) == (here / "mine.sbatch", str(ROOT / "slurm"))


def test_a_time_from_elsewhere_will_do(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.sbatch").write_text("#!/bin/bash\necho\n")
    request = SubmissionRequest(DIGITS, template="./mine.sbatch")
    with pytest.raises(JobError, match="no wall time is given"):
        prepare(request)
    monkeypatch.setenv("SBATCH_TIMELIMIT", "5")
    assert prepare(request).template == here / "mine.sbatch"


def test_a_template_that_bash_can_not_read(here: Path) -> None:
    Path("mine.sbatch").write_text("#!/bin/bash\n#SBATCH -t 5\nif true\n")
    with pytest.raises(JobError, match=r"not a valid shell script: .*mine.sbatch: line 4: syntax error"):
        prepare(SubmissionRequest(DIGITS, template="./mine.sbatch"))


def test_points_are_checked_one_by_one(here: Path) -> None:
    Path("s.toml").write_text("[values]\ntrain.shards = [8, 2]\n")
    request = replace(REQUEST, template="sweep", sweep=Path("s.toml"), options=["--ntasks-per-node=4"])
    with pytest.raises(JobError, match=r"point 1 of the sweep: .*4 ranks on 1 node, but has 2"):
        prepare(request)


@pytest.mark.parametrize("more", [["--array", "0-3"], ["--at-once", "2"]])
def test_an_array_without_a_sweep(here: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(DIGITS), "--time", "5", *more]) == 2
    assert "--array and --at-once need a sweep" in capsys.readouterr().err


def test_which_points_of_a_sweep(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", "true")
    sweep = [str(DIGITS), "--sweep", str(RATES), "--dry-run"]
    assert command.main([*sweep, "--array", "1,3"]) == 0
    assert " --array=1,3 " in capsys.readouterr().out
    assert command.main([*sweep, "--array", "1,3%2", "--at-once", "2"]) == 2
    assert "no % in --array" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ run folders


def test_a_new_run_gets_a_new_folder(here: Path) -> None:
    (here / "runs" / "digits_mlp").mkdir(parents=True)
    assert prepare(REQUEST).folder == here / "runs" / "digits_mlp-2"


def test_a_folder_that_holds_a_run(here: Path) -> None:
    (here / "run").mkdir()
    assert prepare(replace(REQUEST, out=Path("run"))).folder == here / "run"
    (here / "run" / "job.toml").write_text("")
    with pytest.raises(CheckpointError, match=r"already contains a run. Resume it with --resume"):
        prepare(replace(REQUEST, out=Path("run")))
    assert prepare(replace(REQUEST, out=Path("run"), resume=True)).folder == here / "run"


def test_a_submission_is_on_record(here: Path, put: Put) -> None:
    put("sbatch", "echo '17;cluster'")
    submission = prepare(replace(REQUEST, overrides=["train.epochs=3"]))
    assert submit(submission) == "17"
    (line,) = map(json.loads, (submission.folder / "submitted.jsonl").read_text().splitlines())
    assert (line["job_id"], line["job"], line["set"]) == ("17", str(DIGITS), ["train.epochs=3"])
    assert line["command"] == submission.command
    assert (submission.folder / "logs").is_dir()


def test_nothing_is_left_of_a_submission_that_failed(here: Path, put: Put) -> None:
    put("sbatch", "exit 1")
    submission = prepare(replace(REQUEST, sweep=RATES, template="sweep", options=[]))
    with pytest.raises(SlurmError):
        submit(submission)
    assert list((here / "runs").iterdir()) == []


def test_a_run_that_goes_on_is_wanted_again(here: Path, put: Put) -> None:
    put("sbatch", "echo 17")
    submit(prepare(replace(REQUEST, out=Path("run"))))
    (here / "run" / "cancelled").touch()
    submit(prepare(replace(REQUEST, out=Path("run"), resume=True)))
    assert not (here / "run" / "cancelled").exists()
    assert len((here / "run" / "submitted.jsonl").read_text().splitlines()) == 2


def test_a_run_goes_on_as_it_was_submitted(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", "echo 17")
    submit(prepare(replace(REQUEST, out=Path("run"), overrides=["train.epochs=3"])))
    assert command.main(["--out", "run", "--resume", "--set", "run.keep_checkpoints=3", "--dry-run"]) == 0
    words = (str(DIGITS), "--out", f"{here}/run", "--set", "train.epochs=3", "--set", "run.keep_checkpoints=3")
    assert shlex.join(words) in capsys.readouterr().out


def test_a_sweep_goes_on_with_its_points(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("sbatch", "echo 17")
    submit(prepare(SubmissionRequest(DIGITS, out=Path("run"), sweep=RATES, template="sweep")))
    assert command.main(["--out", "run", "--resume", "--array", "4", "--dry-run"]) == 0
    words = ("--array=4", f"{ROOT}/slurm/sweep.sbatch", f"{here}/run/sweep.toml", str(DIGITS))
    assert f" {shlex.join(words)} " in capsys.readouterr().out
    Path("other.toml").write_text("[values]\ntrain.seed = [1, 2]\n")
    with pytest.raises(CheckpointError, match="has other points"):
        prepare(SubmissionRequest(DIGITS, out=Path("run"), sweep=Path("other.toml"), template="sweep", resume=True))


def test_a_run_of_nobody_knows_what(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "run").mkdir()
    (here / "run" / "job.toml").write_text("")
    assert command.main(["--out", "run", "--resume"]) == 2
    assert "was not started by hpcnn submit, so its job file is not known" in capsys.readouterr().err


def test_settings_that_would_change_the_result(here: Path) -> None:
    from hpcnn.job.dump import resolved_toml
    from hpcnn.job.load import load_job

    constant, checkpoints = "schedule.name=constant", here / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.safetensors").touch()
    (here / "run" / "job.toml").write_text(resolved_toml(load_job(DIGITS, ["train.shards=6", constant]).job))
    go_on = replace(REQUEST, out=Path("run"), resume=True, overrides=[constant])
    assert prepare(replace(go_on, overrides=[constant, "train.shards=auto"]))
    assert prepare(replace(go_on, overrides=[constant, "train.shards=6", "train.epochs=100"]))
    with pytest.raises(CheckpointError, match=r"train\.shards: 6 -> 8"):
        prepare(go_on)


def test_a_job_that_leaves_arithmetic_open_goes_on_with_that_of_the_run(here: Path) -> None:
    from hpcnn.job.dump import resolved_toml
    from hpcnn.job.load import load_job

    checkpoints = here / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.safetensors").touch()
    recorded = resolved_toml(load_job(DIGITS, ["train.arithmetic=numpy"]).job)
    (here / "run" / "job.toml").write_text(recorded.replace('arithmetic = "numpy"\n', ""))
    go_on = replace(REQUEST, out=Path("run"), resume=True)
    assert prepare(go_on)
    with pytest.raises(CheckpointError, match=r'train\.arithmetic: "numpy" -> "native"'):
        prepare(replace(go_on, overrides=["train.arithmetic=native"]))


def test_two_jobs_never_write_to_one_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = prepare(replace(REQUEST, out=Path("run")))
    other = QueuedJob("9", "RUNNING", comment=f"hpcnn:{here}/run")
    monkeypatch.setattr("hpcnn.slurm.submission.queued", lambda: [other, QueuedJob("8", "RUNNING")])
    with pytest.raises(CheckpointError, match=r"job 9 in the queue already writes to .* --after 9"):
        check_free(submission, [])
    check_free(submission, ["9"])


# ------------------------------------------------------------------------------------------------ templates


def test_where_templates_are_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert templates_folder() == ROOT / "slurm"
    for folder in (here / "slurm", here / "named"):
        folder.mkdir()
        (folder / "train.sbatch").write_text("")
    assert templates_folder() == here / "slurm"
    monkeypatch.setenv("HPCNN_SLURM_DIR", "named")
    assert find_template("train") == here / "named" / "train.sbatch"


@pytest.mark.parametrize("name", ["train", "single", "keras", "apptainer", "sweep"])
def test_our_templates_are_found_and_sound(here: Path, name: str) -> None:
    assert prepare(SubmissionRequest(DIGITS, template=name)).asked["time"]


def test_the_environment_that_submits_is_that_of_the_job(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python").write_text("")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr("sys.executable", "/opt/env/bin/python")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert prepare(REQUEST).environ["PATH"] == f"/opt/env/bin:{tmp_path}:/bin"
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert prepare(REQUEST).environ["PATH"] == f"{tmp_path}:/bin"
