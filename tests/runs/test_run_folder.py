import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from hpcnn.errors import CheckpointError
from hpcnn.runs.checkpoints.index import newest_that_verifies
from hpcnn.runs.records.line_log import append_lines
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.start import Start, choose_start, newest_folder
from hpcnn.storage.checkpoint import Checkpoint, save_checkpoint
from tests.small_jobs import make_job, train

FILES = ["job", "metrics", "result", "last", "best", "model"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fill(folder, name="job"):
    path = getattr(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return folder


def new_folder(name, out=None, resume="never"):
    """Begin to use a folder, and leave it."""
    start = choose_start(name, out, resume)
    start.lease.release()
    return start.folder


def test_new_folders_are_numbered():
    names = []
    for _ in range(3):
        folder = choose_start("digits", None, "never").folder
        names.append(str(folder.path))
    assert names == ["runs/digits", "runs/digits-2", "runs/digits-3"]
    assert str(new_folder("other").path) == "runs/other"


def test_a_number_that_is_free_is_taken_and_an_empty_folder_is_not():
    Path("runs/a").mkdir(parents=True)
    assert str(new_folder("a").path) == "runs/a-2"


def test_looking_for_a_folder_makes_none_and_one_that_is_not_used_goes_away(tmp_path):
    newest_folder("a", None)
    new_folder("a")
    new_folder("a", Path("some/where"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_is_named_must_hold_no_run(tmp_path, name):
    folder = RunFolder(tmp_path / "out")
    assert new_folder("a", folder.path) == folder
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    assert new_folder("a", folder.path) == folder
    fill(folder, name)
    with pytest.raises(CheckpointError, match=r"out' holds a run already, and nothing is overwritten.*--resume auto"):
        new_folder("a", folder.path)
    assert not folder.lease.exists()


def test_the_newest_folder_is_the_last_that_holds_a_run(tmp_path):
    assert newest_folder("a", None) is None
    first, second = fill(new_folder("a")), fill(new_folder("a"))
    assert newest_folder("a", None) == second
    (tmp_path / "runs" / "a-3").mkdir()  # made, and nothing in it
    assert newest_folder("a", None) == second != first
    fill(RunFolder(tmp_path / "runs" / "a-10"))  # not in the row
    assert newest_folder("a", None) == second


def test_a_folder_that_is_not_readable_is_not_resumed(monkeypatch):
    """As another person's, where a project's runs lie together."""
    own, theirs = (fill(new_folder("a")) for _ in range(2))
    monkeypatch.setattr(os, "access", lambda path, mode: path != theirs.path)
    assert newest_folder("a", None) == own
    assert str(new_folder("a").path) == "runs/a-3"


def test_the_newest_folder_by_name(tmp_path):
    folder = RunFolder(tmp_path / "out")
    assert newest_folder("a", folder.path) is None
    assert newest_folder("a", fill(folder).path) == folder


def test_a_begun_run_has_its_job_and_room_for_checkpoints_and_no_result(tmp_path):
    folder = RunFolder(tmp_path / "out")
    folder.begin({"a": 1})
    assert folder.job.read_text() == "a = 1\n"
    assert folder.last.parent.is_dir()
    assert folder.last.parent == folder.best.parent
    assert folder.read_result() is None
    folder.write_result({"weights_sha256": "0", "values": {"loss": 0.5}})
    assert folder.read_result() == {"weights_sha256": "0", "values": {"loss": 0.5}}
    folder.begin({"a": 2})
    assert folder.read_result() is None
    assert folder.job.read_text() == "a = 2\n"


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"can't write to the run folder .*Choose another --out"):
        RunFolder(tmp_path / "file" / "out").begin({})


@pytest.mark.parametrize(("name", "make"), [
    ("checkpoints", lambda path: path.symlink_to("/nowhere")), ("job.toml", Path.mkdir),
])  # fmt: skip
def test_what_is_in_the_way_of_a_run_is_named(tmp_path, name, make):
    make(tmp_path / name)
    words = rf"can't write to the run folder .*: '.*/{name}' is in the way\. Move it away, or choose another --out"
    with pytest.raises(CheckpointError, match=words):
        RunFolder(tmp_path).begin({})


def test_a_result_that_can_not_be_read(tmp_path):
    folder = fill(RunFolder(tmp_path / "out"), "result")
    with pytest.raises(CheckpointError, match=r"result.json' can't be read .*Delete it to resume the run"):
        folder.read_result()


def line(epoch):
    return json.dumps({"epoch": epoch, "loss": 0.5}) + "\n"


@pytest.mark.parametrize(("text", "epochs", "kept"), [
    ("", 3, ""),
    (line(1) + line(2), 2, line(1) + line(2)),
    (line(1) + line(2) + line(3), 1, line(1)),
    (line(1) + line(2), 0, ""),
    (line(1) + line(2)[:9], 2, line(1)),  # cut off by a crash
    (line(1) + line(2)[:-1], 2, line(1) + line(2)),  # by its last byte
    (line(1) + "null\n[1]\n{}\n\n\"x\"\n" + line(2), 2, line(1) + line(2)),
])  # fmt: skip
def test_metrics_of_epochs_to_come_are_dropped(tmp_path, text, epochs, kept):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text(text)
    folder.keep_metrics(epochs)
    assert folder.metrics.read_text() == kept
    append_lines(folder.metrics, {"epoch": epochs + 1})
    assert folder.metrics.read_text() == kept + json.dumps({"epoch": epochs + 1}) + "\n"


@pytest.mark.parametrize("rest", ["", line(2)[:9], 'null\n{}\n{"epoch": Infinity}\n'])
def test_metrics_are_read_without_what_was_cut_off(tmp_path, rest):
    folder = RunFolder(tmp_path)
    assert folder.read_metrics() == []
    folder.metrics.write_text(line(1) + rest)
    assert folder.read_metrics() == [json.loads(line(1))]
    folder.metrics.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"metrics.jsonl' can't be read .*Fix it, or delete it"):
        folder.read_metrics()


def test_without_metrics_there_is_nothing_to_drop(tmp_path):
    RunFolder(tmp_path).keep_metrics(0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rest", [b"", b"x" * 10, line(1).encode()[:-1]])
def test_a_line_after_one_that_a_full_disk_cut_off(tmp_path, rest):
    folder = RunFolder(tmp_path)
    folder.metrics.write_bytes(rest)
    append_lines(folder.metrics, {"epoch": 2})
    append_lines(folder.metrics, {"epoch": 3})
    before = rest + b"\n" if rest else b""
    assert folder.metrics.read_bytes() == before + b'{"epoch": 2}\n{"epoch": 3}\n'


def test_a_beginning_removes_what_killed_writers_left(tmp_path):
    folder = fill(RunFolder(tmp_path / "out"), "last")
    leftovers = [folder.path / ".job.toml.7.tmp", folder.checkpoints / ".step-0000000003.safetensors.123-4af.tmp"]
    being_made = folder.path / ".report.html.7.tmp"  # by who looks at the run
    for path in (*leftovers, being_made):
        path.touch()
    folder.begin({})
    assert not any(path.exists() for path in leftovers)
    assert being_made.exists()
    assert folder.last.exists()


def test_states_by_their_step(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.step_files() == []
    folder.checkpoints.mkdir()
    for step in (3, 30, 200, 1000):
        folder.at_step(step).touch()
    (folder.checkpoints / "step-other.txt").touch()
    assert folder.holds_run()
    assert folder.step_files() == [folder.at_step(step) for step in (1000, 200, 30, 3)]
    assert folder.old_files(200, 2) == [folder.at_step(1000), folder.at_step(3)]
    assert folder.old_files(2000, 4) == []


def test_a_folder_that_is_moved_away_has_no_old_states(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    scandir = os.scandir

    def gone(path):
        with suppress(FileNotFoundError):
            folder.checkpoints.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", gone)
    assert folder.old_files(1, 1) == []


@pytest.fixture(scope="module")
def state():
    return train(make_job()).state


def write_state(state, path, epoch, within=0, *, damaged=False):
    """Write a state after so many epochs, and steps within the next."""
    progress = dict(state.facts["progress"]) | {"epoch": epoch, "step_in_epoch": within, "step": 3 * epoch + within}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, Checkpoint(state.tensors, dict(state.facts) | {"progress": progress}))
    if damaged:
        damage(path)
    return path


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def started(state):
    """Return what makes a folder that holds a run with a checkpoint."""

    def make(path):
        folder = fill(RunFolder(path))
        write_state(state, folder.at_step(3), 1)
        folder.last.hardlink_to(folder.at_step(3))
        return folder

    return make


def test_the_newest_that_verifies(tmp_path, state, capsys):
    folder = RunFolder(tmp_path / "run")
    assert newest_that_verifies(folder) is None
    write_state(state, folder.at_step(3), 1)
    write_state(state, folder.at_step(5), 1, 2)
    write_state(state, folder.last, 1, 1)  # older: the run was killed before it could be linked
    write_state(state, folder.best, 1)
    assert newest_that_verifies(folder) == folder.at_step(5)
    write_state(state, folder.best, 2)  # a best state that waited in memory has no other name
    assert newest_that_verifies(folder) == folder.best
    assert capsys.readouterr().err == ""


def test_an_epoch_that_was_evaluated_is_newer_than_its_last_step(tmp_path, state):
    folder = RunFolder(tmp_path / "run")
    write_state(state, folder.at_step(3), 0, 3)
    write_state(state, folder.best, 1)
    assert newest_that_verifies(folder) == folder.best


def test_damaged_files_are_named_once_and_passed_over(tmp_path, state, capsys):
    folder = RunFolder(tmp_path / "run")
    good = write_state(state, folder.at_step(3), 1)
    write_state(state, folder.at_step(5), 1, 2, damaged=True)
    folder.last.hardlink_to(folder.at_step(5))
    folder.best.write_bytes(b"no header")
    assert newest_that_verifies(folder) == good
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("hpcnn: warning: passed over a checkpoint: ") for line in lines)
    assert "best.safetensors' is not a whole safetensors file" in lines[0]
    assert "step-0000000005.safetensors' is damaged" in lines[1]


def test_a_run_whose_files_are_all_damaged_does_not_start_again(tmp_path, state):
    folder = RunFolder(tmp_path / "run")
    for number, step in enumerate((3, 6), 1):
        write_state(state, folder.at_step(step), number, damaged=True)
    with pytest.raises(
        CheckpointError, match=r"has 2 checkpoints, and none of them is whole\. Resume from another one"
    ):
        choose_start("a", folder.path, "auto")


def test_a_run_whose_files_are_links_to_nowhere_does_not_start_again(tmp_path, capsys):
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    for path in (folder.at_step(3), folder.last):
        path.symlink_to("/nowhere/state")
    for resume, words in (("auto", r"has 2 checkpoints, and none of them is whole"), ("never", "holds a run already")):
        with pytest.raises(CheckpointError, match=words):
            choose_start("a", folder.path, resume)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "there is no checkpoint" in lines[0]
    assert lines[0].endswith(", a link to '/nowhere/state'. Give a file that hpcnn wrote, or a run folder.")


def test_a_fresh_start():
    for resume in ("auto", "never"):
        assert new_folder("a", None, resume) == RunFolder(Path("runs/a"))


def test_auto_resumes_the_newest_run_and_never_does_not(started):
    folder = started(Path("runs/a"))
    start = choose_start("a", None, "auto")
    assert start == Start(folder, folder.at_step(3))
    start.lease.release()
    assert choose_start("a", None, "never") == Start(RunFolder(Path("runs/a-2")))
    with pytest.raises(CheckpointError, match="holds a run already"):
        choose_start("a", folder.path, "never")


def test_auto_without_a_checkpoint_starts_again_in_the_same_folder():
    folder = fill(RunFolder(Path("runs/a")))
    assert choose_start("a", None, "auto") == Start(folder)


@pytest.mark.parametrize(("what", "file"), [("path", "step-0000000003"), ("last", "last")])
def test_a_run_by_name_is_resumed_in_its_folder_or_in_another_one(tmp_path, started, what, file):
    folder = started(tmp_path / "run")
    given, path = str(getattr(folder, what)), folder.checkpoints / f"{file}.safetensors"
    assert choose_start("a", None, given) == Start(folder, path)
    assert choose_start("a", tmp_path / "new", given) == Start(RunFolder(tmp_path / "new"), path)


def test_a_checkpoint_that_lies_in_no_run_starts_a_new_folder(tmp_path):
    (tmp_path / "some.safetensors").touch()
    start = choose_start("a", None, str(tmp_path / "some.safetensors"))
    assert start == Start(RunFolder(Path("runs/a")), tmp_path / "some.safetensors")


@pytest.mark.parametrize("given", ["missing", "."])
def test_nothing_to_go_on_with(given):
    with pytest.raises(CheckpointError, match=r"--resume: there is no checkpoint .*Give a run folder or a checkpoint"):
        choose_start("a", None, given)


def test_a_run_that_has_saved_nothing_yet_starts_again_in_its_folder(tmp_path):
    folder = RunFolder(tmp_path / "early")
    folder.path.mkdir()
    folder.job.write_text("")
    start = choose_start("job", None, str(folder.path))
    assert (start.folder.path, start.checkpoint) == (folder.path, None)
    start.lease.release()
