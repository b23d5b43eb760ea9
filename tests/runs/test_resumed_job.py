"""A run knows its job, and where its paths start: it goes on without being told again, also where it was moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hpcnn
from hpcnn.__main__ import main
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import EXIT_DONE, EXIT_STOPPED, CheckpointError
from hpcnn.job.load import load_job, read_table
from hpcnn.job.origin import read_origin
from hpcnn.runs.inference import checkpoint_path, open_trained
from hpcnn.runs.resumed_job import job_of_run, load_start_job
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.session import train
from hpcnn.storage.checkpoint import load_checkpoint, save_checkpoint
from hpcnn.tools.report.read import read_run

JOB = """
[data]
source = "csv"
path = "../data/line.csv"
targets = ["y"]
[model]
layers = [{ type = "dense", units = 1 }]
[loss]
name = "mse"
[train]
epochs = 2
batch_size = 8
[run]
display = "quiet"
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree of a job, its data, and a run that was stopped; the working folder is none of them."""
    tree = tmp_path / "tree"
    for folder in ("jobs", "data", "elsewhere"):
        (tree / folder).mkdir(parents=True)
    (tree / "jobs" / "line.toml").write_text(JOB)
    (tree / "data" / "line.csv").write_text("a,y\n" + "".join(f"{a},{2 * a}\n" for a in range(20)))
    monkeypatch.chdir(tree / "elsewhere")
    assert run(tree / "jobs" / "line.toml", tree / "run", "never", "run.stop_at_step=1") == EXIT_STOPPED
    return tree


def run(job: Path | None, out: Path | None, resume: str, *overrides: str) -> int:
    loaded = load_start_job(job, overrides, out, resume)
    return train(loaded, SerialCommunicator(), out=out, resume=resume).exit_code


@contextmanager
def moved(tree: Path) -> Iterator[Path]:
    yield tree.rename(tree.with_name("moved"))


@pytest.mark.parametrize("how", ["run", "checkpoint", "auto", "its job", "api"])
def test_it_is_resumed_by_its_own_job_and_paths(tree: Path, how: str) -> None:
    run_folder = tree / "run"
    if how == "run":
        assert run(None, None, str(run_folder)) == EXIT_DONE
    elif how == "checkpoint":
        assert run(None, None, str(run_folder / "checkpoints" / "last.safetensors")) == EXIT_DONE
    elif how == "auto":
        assert run(None, run_folder, "auto") == EXIT_DONE
    elif how == "its job":
        assert run(run_folder / "job.toml", None, str(run_folder)) == EXIT_DONE
    else:
        assert len(hpcnn.fit(resume=run_folder).history) == 2


def test_it_is_resumed_where_its_whole_tree_was_moved(tree: Path) -> None:
    with moved(tree) as there:
        assert run(None, None, str(there / "run"), "run.stop_at_step=2") == EXIT_STOPPED
        assert open_trained(checkpoint_path(there / "run")).base.resolve() == there / "jobs"


def test_it_is_evaluated_where_its_whole_tree_was_moved(tree: Path) -> None:
    assert run(None, None, str(tree / "run")) == EXIT_DONE
    with moved(tree) as there:
        assert open_trained(checkpoint_path(there / "run")).base.resolve() == there / "jobs"


def test_it_is_resumed_where_its_folder_alone_was_moved(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    there = (tree / "run").rename(tmp_path / "far" / "away" / "run")
    assert run(None, None, str(there)) == EXIT_DONE


def test_a_folder_that_lies_where_the_jobs_did_is_not_taken_for_theirs(tree: Path, tmp_path: Path) -> None:
    """As ``../..`` is always there, wherever a run folder is moved."""
    (tmp_path / "far" / "jobs").mkdir(parents=True)
    there = (tree / "run").rename(tmp_path / "far" / "run")
    assert read_origin(there) == tree / "jobs"
    assert open_trained(checkpoint_path(there)).base == tree / "jobs"
    assert run(None, None, str(there)) == EXIT_DONE
    assert (read_origin(there) or Path()).resolve() == tree / "jobs"


def test_where_a_job_without_files_starts(tmp_path: Path) -> None:
    for folder in ("tree/run", "far/away"):
        (tmp_path / folder).mkdir(parents=True)
    long = "long" * 100
    job = {"name": "..", "a": ["/", ".", "gone.csv", long]}
    RunFolder(tmp_path / "tree" / "run").begin(job, tmp_path / "tree")
    there = (tmp_path / "tree" / "run").rename(tmp_path / "far" / "away" / "run")
    assert read_origin(there) == tmp_path / "tree"
    (tmp_path / "tree").rename(tmp_path / "gone")
    assert (read_origin(there) or Path()).resolve() == tmp_path / "far" / "away"


def test_a_lone_checkpoint_has_the_job_in_it(tree: Path, tmp_path: Path) -> None:
    alone = (tree / "run" / "checkpoints" / "last.safetensors").rename(tmp_path / "alone.safetensors")
    assert run(None, tmp_path / "out", str(alone), "train.epochs=3") == EXIT_DONE
    assert load_job(tmp_path / "out" / "job.toml").job.train.epochs == 3


def test_settings_on_top_are_compared_as_ever(tree: Path) -> None:
    with pytest.raises(CheckpointError, match=r"other settings, which decide its result: train\.batch_size: 8 -> 4\."):
        run(None, None, str(tree / "run"), "train.batch_size=4")
    assert run(None, None, str(tree / "run"), "train.epochs=4") == EXIT_DONE


def test_more_epochs_are_refused_where_the_rates_follow_from_their_number(tree: Path) -> None:
    cosine = ["schedule.name=cosine", "run.stop_at_step=2"]
    assert run(tree / "jobs" / "line.toml", tree / "other", "never", *cosine) == EXIT_STOPPED
    with pytest.raises(
        CheckpointError,
        match=r"train\.epochs: 2 -> 3\. With schedule\.name = 'cosine' and no schedule\.length, the learning rates "
        r"follow from the number of epochs: more of them are another training\. Resume with",
    ):
        run(None, None, str(tree / "other"), "train.epochs=3")


@pytest.mark.parametrize("how", ["auto", "run"])
def test_a_run_that_lost_its_job_file_is_not_taken_for_one_of_the_default_job(tree: Path, how: str) -> None:
    (tree / "run" / "job.toml").unlink()
    with pytest.raises(CheckpointError, match=r"has checkpoints, but no job\.toml\. Give the job .* --resume /.*step-"):
        run(None, tree / "run", how if how == "auto" else str(tree / "run"))
    assert run(tree / "jobs" / "line.toml", tree / "run", "auto") == EXIT_DONE


@pytest.fixture
def old_run(tree: Path) -> Path:
    """A run of a version that had one arithmetic, and recorded none."""
    assert run(None, None, str(tree / "run"), "run.stop_at_step=2") == EXIT_STOPPED
    job = tree / "run" / "job.toml"
    job.write_text("".join(line for line in job.read_text().splitlines(keepends=True) if "arithmetic" not in line))
    for file in (tree / "run" / "checkpoints").glob("*.safetensors"):
        checkpoint = load_checkpoint(file)
        del checkpoint.facts["job"]["train"]["arithmetic"]
        save_checkpoint(file, checkpoint)
    return tree / "run"


def test_a_run_that_recorded_no_arithmetic_goes_on_with_numpy(old_run: Path) -> None:
    assert read_table(old_run / "job.toml")["train"]["arithmetic"] == "numpy"
    assert read_run(old_run).settings["train"]["arithmetic"] == "numpy"
    last = old_run / "checkpoints" / "last.safetensors"
    for out, resume in ((old_run, "auto"), (None, str(old_run)), (None, str(last))):
        assert load_start_job(None, (), out, resume).job.train.arithmetic == "numpy"
    assert open_trained(last).job.train.arithmetic == "numpy"
    with pytest.raises(CheckpointError, match=r'train\.arithmetic: "numpy" -> "native"'):
        run(None, None, str(old_run), "train.arithmetic=native")
    assert run(None, None, str(old_run)) == EXIT_DONE
    assert 'arithmetic = "numpy"' in (old_run / "job.toml").read_text()


def test_a_job_file_of_no_run_has_the_default_though_it_has_the_name(tree: Path) -> None:
    copy = tree / "jobs" / "job.toml"
    copy.write_text(JOB)
    assert "arithmetic" not in read_table(copy)["train"]


def test_an_empty_folder_name_is_not_the_working_folder(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CheckpointError, match="out='' is no folder"):
        hpcnn.fit(out="")
    for words in ("train --out=", "train --resume=", "evaluate ", "export run -o "):
        with pytest.raises(SystemExit) as left:
            main(words.split(" ") if words[-1] == " " else words.split())
        assert left.value.code == 2
        said = capsys.readouterr().err
        assert "the path is empty, perhaps a variable that is not set. Give a path; . is the current folder" in said
        assert said.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_job_that_is_named_is_taken(tree: Path) -> None:
    assert load_start_job(tree / "jobs" / "line.toml", (), None, str(tree / "run")).path.name == "line.toml"
    assert load_start_job(None, (), tree / "run", "never").job.name == "digits_mlp"
    assert load_start_job(None, (), None, "auto").job.name == "digits_mlp"
    assert load_start_job(None, (), tree / "new", "auto").job.name == "digits_mlp"
    assert load_start_job(None, (), None, str(tree / "no run")).job.name == "digits_mlp"
    assert job_of_run(tree / "new", str(tree / "run")) == tree / "run" / "job.toml"


def test_the_origin_that_is_not_there_or_damaged(tree: Path) -> None:
    assert (read_origin(tree / "run") or Path()).resolve() == tree / "jobs"
    origin = tree / "run" / "origin.json"
    for text in ("", "[]", "{}", '{"from_here": 3, "folder": "/"}', '{"from_here": "gone", "folder": "/gone"}'):
        origin.write_text(text)
        assert read_origin(tree / "run") is None
        assert load_job(tree / "run" / "job.toml").base == tree / "run"
