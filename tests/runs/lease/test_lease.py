"""One job at a time trains into a folder: leases that are taken and released."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import CheckpointError
from hpcnn.runs.lease import lease as leases
from hpcnn.runs.lease.lease import Lease, RunBusyError, acquire
from hpcnn.runs.lease.owner import held_here, read_owner
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.start import Start, choose_start
from tests.runs.lease.helpers import OWN, TOKEN, at_once, in_time, leave


def test_it_is_taken_once_and_leaves_nothing(tmp_path: Path) -> None:
    lease = acquire(tmp_path)
    with pytest.raises(RunBusyError) as refused:
        acquire(tmp_path)
    said = str(refused.value)
    began = time.strftime("%Y-%m-%d", time.localtime())
    assert f"'{tmp_path}' is being trained by process {os.getpid()} on {OWN.host}, since {began} " in said
    assert (
        f"Wait for its end, or stop it (kill {os.getpid()} on {OWN.host}), or train into another folder by --out."
        in said
    )
    assert refused.value.exit_code == 2
    lease.release()
    assert list(tmp_path.iterdir()) == []
    acquire(tmp_path).release()


def test_what_is_released_late_is_not_another_jobs(tmp_path: Path) -> None:
    first = acquire(tmp_path)
    first.release()
    second = acquire(tmp_path)
    first.release()
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.token == second.token


def test_folders_that_were_made_go_if_nothing_came_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (None, Path("a/b/c")):
        start = choose_start("digits", out, "never")
        assert start.lease is not None
        start.lease.release()
    assert list(tmp_path.iterdir()) == []
    start = choose_start("digits", None, "never")
    assert start.lease is not None
    (start.folder.path / "notes").write_text("mine")
    start.lease.release()
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "digits", "notes"]


def test_eight_at_once_get_eight_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    starts = at_once(8, lambda: choose_start("a", None, "never").folder.path.name)
    assert sorted(map(str, starts)) == ["a", *(f"a-{number}" for number in range(2, 9))]


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_of_eight_that_want_one_folder_one_gets_it(tmp_path: Path, resume: str) -> None:
    for trial in range(5):
        out = tmp_path / f"out{trial}"
        results = at_once(8, partial(choose_start, "a", out, resume))
        assert results.count(Start(RunFolder(out))) == 1
        assert sum(isinstance(result, RunBusyError) for result in results) == 7, results
        assert [path.name for path in out.iterdir()] == ["lease"]


def test_some_that_fail_delete_what_others_are_making(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As jobs do whose data are missing: each gets its folder all the same."""
    monkeypatch.chdir(tmp_path)

    def begin() -> str:
        start = choose_start("a", None, "never")
        assert start.lease is not None
        start.lease.release()
        return start.folder.path.parent.name

    for _ in range(20):
        assert at_once(8, begin) == ["runs"] * 8
    assert not Path("runs").exists() or not [*Path("runs").iterdir()]


def test_resume_auto_finds_a_run_that_is_about_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    choose_start("a", None, "never")
    with pytest.raises(RunBusyError, match="'runs/a' is being trained by process"):
        choose_start("a", None, "auto")


def test_a_folder_that_is_none_or_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=r"--out '.*file' is a file, and a run needs a folder\. Give ano"):
        choose_start("a", tmp_path / "file", "auto")
    with pytest.raises(CheckpointError, match=r"can't write to the run folder '.*file/run' \(Not a directory\)\. Ch"):
        choose_start("a", tmp_path / "file" / "run", "never")
    (tmp_path / "lease").write_text("somebody's")
    with pytest.raises(CheckpointError, match=r"folder '.*' \(Not a directory\): '.*/lease' is in the way\. Move it"):
        choose_start("a", tmp_path, "auto")
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("")
    with pytest.raises(CheckpointError, match=r"can't write to the run folder 'runs/a' \(Not a directory\)"):
        choose_start("a", None, "never")


def deny(*_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_the_lease_of_another_user_is_left_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(tmp_path, replace(OWN, start="1"))  # dead
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: (deny if path.name == TOKEN else rename)(path, to))
    said = in_time(lambda: choose_start("a", tmp_path, "never"))
    assert isinstance(said, CheckpointError)
    assert f"can't write to the run folder '{tmp_path}' (Permission denied). Ch" in str(said)


def test_one_that_can_not_be_released_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = acquire(tmp_path)
    monkeypatch.setattr(Path, "rename", deny)
    lease.release()
    assert lease.token not in held_here


def test_a_folder_in_the_place_of_the_lease_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_ATTEMPTS", 10)
    (RunPaths(tmp_path).lease / ".nfs0001").mkdir(parents=True)
    said = in_time(lambda: acquire(tmp_path))
    assert isinstance(said, CheckpointError)
    assert not isinstance(said, RunBusyError)
    lease = str(RunPaths(tmp_path).lease)
    assert f"'{lease}' can't be taken: it is not a job's lease, and holds '.nfs0001'. Delete it." in str(said)
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


def test_it_is_taken_where_a_rename_replaces_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def strict(path: Path, to: Path) -> Path:
        if to.is_dir():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", strict)
    RunPaths(tmp_path).lease.mkdir()  # as a crash left it
    lease = in_time(lambda: acquire(tmp_path))
    assert isinstance(lease, Lease)
    lease.release()
    assert list(tmp_path.iterdir()) == []
