"""One job at a time trains into a folder: leases that are taken, kept, lost, and taken over."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hpcnn
from hpcnn.core.run_paths import RunPaths
from hpcnn.errors import CheckpointError
from hpcnn.runs.lease import lease as leases
from hpcnn.runs.lease.keeper import LeaseKeeper, LeaseLostError
from hpcnn.runs.lease.lease import Lease, RunBusyError, acquire
from hpcnn.runs.lease.owner import clock, content_of, held_here, read_owner
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.start import Start, choose_start
from hpcnn.system.proc_files import stat_of
from hpcnn.system.processes import Process
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica
from tests.timing import wait_until

OWN = Process.own()
ELSEWHERE = replace(OWN, host="elsewhere", boot="another")
"""A process that nobody here can see."""
TOKEN = "0123456789abcdef"
LOST = 8


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    monkeypatch.setattr(leases, "LEASE_S", 60.0)  # not to expire on a busy machine, unless it is to
    monkeypatch.setattr(leases, "GRACE_S", 0.1)
    monkeypatch.setattr(leases, "_POLL_S", 0.01)


@pytest.fixture
def _expiring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.6)


@pytest.fixture
def keep() -> Iterator[Callable[[Lease], LeaseKeeper]]:
    keepers: list[LeaseKeeper] = []

    def start(lease: Lease) -> LeaseKeeper:
        keepers.append(LeaseKeeper(lease))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.close()


def leave(folder: Path, *processes: Process, content: bytes | None = None) -> bytes:
    """Write the lease of a job that is not one of this process."""
    lease = RunPaths(folder).lease
    lease.mkdir()
    content = content_of(processes) if content is None else content
    (lease / TOKEN).write_bytes(content)
    return content


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# -------------------------------------------------------------------------------------------------- taken and released


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


def at_once(count: int, action: Callable[[], object]) -> list[object]:
    """Return what each of so many threads comes to, or the error that it is told."""
    barrier, results = threading.Barrier(count), []

    def body() -> None:
        barrier.wait()
        try:
            results.append(action())
        except CheckpointError as error:
            results.append(error)

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


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
    with pytest.raises(CheckpointError, match=r"can't write to the run folder '.*' \(Not a directory\)\. Ch"):
        choose_start("a", tmp_path, "auto")
    monkeypatch.chdir(tmp_path)
    Path("runs").write_text("")
    with pytest.raises(CheckpointError, match=r"can't write to the run folder 'runs/a' \(Not a directory\)"):
        choose_start("a", None, "never")


def deny(*_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def in_time(action: Callable[[], object]) -> object:
    """Return what a call comes to that may never end, or the error that it raises."""
    results: list[object] = []

    def body() -> None:
        try:
            results.append(action())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(10)
    assert results, "it did not end in 10 s"
    return results[0]


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
    assert f"'{lease}' can't be taken: it is no lease of a job, and holds '.nfs0001'. Delete it." in str(said)
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


# ------------------------------------------------------------------------------------------------------------ renewed


def test_an_owner_that_nobody_here_can_see_is_live_as_long_as_it_renews(tmp_path: Path) -> None:
    content = leave(tmp_path, ELSEWHERE)
    beats: list[None] = []

    def renew() -> None:
        beats.append(None)
        if len(beats) == 20:
            (RunPaths(tmp_path).lease / TOKEN).write_bytes(b"9" * 20 + content[20:])

    with pytest.raises(RunBusyError, match=r"by process \d+ on elsewhere, since"):
        acquire(tmp_path, beat=renew)
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.token == TOKEN


@pytest.mark.usefixtures("_expiring")
def test_one_that_renews_no_more_is_taken_over(tmp_path: Path) -> None:
    leave(tmp_path, ELSEWHERE)
    said: list[str] = []
    begin = time.monotonic()
    lease = acquire(tmp_path, say=said.append)
    assert time.monotonic() - begin >= leases.LEASE_S
    assert len(said) == 2
    assert f"the run in {tmp_path} is held by process {OWN.number} on elsewhere" in said[0]
    assert "waiting up to 1 s for a sign of life of it" in said[0]
    assert "on elsewhere, since" in said[1]
    assert said[1].endswith("gave no sign of life for 1 s: its run is taken over")
    assert [path.name for path in RunPaths(tmp_path).lease.iterdir()] == [lease.token]
    assert [path.name for path in tmp_path.iterdir()] == ["lease"]


@pytest.mark.parametrize("content", [b"", b"12\n", b"x\n{}", b'12\n{"processes": [{}]}', b'12\n{"processes": 3}'])
@pytest.mark.usefixtures("_expiring")
def test_one_that_a_crash_cut_off_expires(tmp_path: Path, content: bytes) -> None:
    leave(tmp_path, content=content)
    said: list[str] = []
    acquire(tmp_path, say=said.append)
    assert "held by a job that is not known" in said[0]


def test_several_that_wait_do_not_take_it_from_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.6)
    leave(tmp_path, ELSEWHERE)

    def take() -> object:
        acquire(tmp_path, say=lambda text: monkeypatch.setattr(leases, "LEASE_S", 60.0) if "over" in text else None)
        return "taken"

    results = at_once(6, take)
    assert results.count("taken") == 1
    assert sum(isinstance(result, RunBusyError) for result in results) == 5


def test_an_earlier_attempt_of_the_same_slurm_job_is_given_time_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Callable[[Lease], LeaseKeeper]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    first = LeaseKeeper(acquire(tmp_path))
    with pytest.raises(RunBusyError, match=r"of Slurm job 42, since .*stop it \(hpcnn cancel 42\)"):
        acquire(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    release = threading.Timer(0.5, first.close)
    release.start()
    keep(acquire(tmp_path))
    release.join()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    monkeypatch.setattr(leases, "ENDING_S", 0.3)
    with pytest.raises(RunBusyError, match="of Slurm job 42"):
        acquire(tmp_path)


def test_an_earlier_run_within_the_same_batch_script_is_given_time_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the last processes of an mpirun that has failed, when a loop starts the next one."""
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    content = leave(tmp_path, ELSEWHERE)
    beats = itertools.count(1)

    def renew() -> None:
        (RunPaths(tmp_path).lease / TOKEN).write_bytes(b"%020d" % next(beats) + content[20:])

    def end_soon() -> None:
        renew()
        if next(beats) > 20:
            leases._take_away(tmp_path, TOKEN)

    begin = time.monotonic()
    with monkeypatch.context() as quick:
        quick.setattr(leases, "LEASE_S", 0.3)
        with pytest.raises(RunBusyError, match="of Slurm job 42"):
            acquire(tmp_path, beat=renew)
    assert time.monotonic() - begin >= 0.3
    acquire(tmp_path, beat=end_soon).release()


def test_survivors_know_the_lease_of_the_rank_that_took_it(tmp_path: Path) -> None:
    """It may have died before it told them."""
    lease = acquire(tmp_path, [replace(OWN, number=1), OWN])
    held_here.discard(lease.token)  # as if the first of them had taken it
    assert acquire(tmp_path, [OWN]).token == lease.token
    with pytest.raises(RunBusyError):
        acquire(tmp_path, [OWN])


# ----------------------------------------------------------------------------------------------------- dead for certain


def test_processes_of_this_machine() -> None:
    assert not OWN.is_dead()
    assert replace(OWN, start="1").is_dead()  # another got its number
    assert replace(OWN, number=2**22 + 1).is_dead()
    for unknown in ({"boot": "another"}, {"namespace": "another"}, {"boot": "", "namespace": ""}, {"start": ""}):
        assert not replace(OWN, number=2**22 + 1, **unknown).is_dead()


def forked(action: Callable[[], object]) -> int:
    """Run it in another process, which ends with `LOST` if it loses its lease; return the process."""
    child = os.fork()
    if not child:
        try:
            action()
        except LeaseLostError:
            os._exit(LOST)
        finally:
            os._exit(1)
    return child


def hold(folder: Path) -> None:
    LeaseKeeper(acquire(folder))
    (folder / "held").touch()
    time.sleep(600)


@pytest.mark.parametrize("reaped", [True, False])
def test_after_a_kill_it_is_free_at_once(tmp_path: Path, reaped: bool) -> None:
    child = forked(lambda: hold(tmp_path))
    wait_until((tmp_path / "held").exists)
    with pytest.raises(RunBusyError):
        acquire(tmp_path)
    os.kill(child, signal.SIGKILL)
    if reaped:
        os.waitpid(child, 0)
    else:  # a large process takes its time to die
        wait_until(lambda: stat_of(child)[0] == "Z")
    said: list[str] = []
    lease = acquire(tmp_path, say=said.append)
    assert said == []
    if not reaped:
        os.waitpid(child, 0)
    lease.release()


@pytest.mark.usefixtures("_expiring")
def test_of_several_processes_all_have_to_be_dead(tmp_path: Path) -> None:
    leave(tmp_path, replace(OWN, start="1"), ELSEWHERE)
    said: list[str] = []
    acquire(tmp_path, say=said.append)
    assert len(said) == 2


# ---------------------------------------------------------------------------------------------------------------- lost


def write_on_and_on(folder: Path) -> None:
    """Be suspended between two writes: what is being written just then, nobody can call back."""
    keeper = LeaseKeeper(acquire(folder))
    for count in range(10):
        if count == 5:
            os.kill(os.getpid(), signal.SIGSTOP)
        keeper.check()
        (folder / "written").write_text(str(count))


@pytest.mark.usefixtures("_expiring")
def test_one_that_was_suspended_stops_and_writes_nothing(tmp_path: Path) -> None:
    child = forked(lambda: write_on_and_on(tmp_path))
    try:
        assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
        time.sleep(leases.LEASE_S)  # until then it may as well be alive
        said: list[str] = []
        acquire(tmp_path, say=said.append)
        assert "its run is taken over" in said[-1]
    finally:
        os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == LOST
    assert (tmp_path / "written").read_text() == "4"


def test_it_says_who_has_it_now(tmp_path: Path, keep: Callable[[Lease], LeaseKeeper]) -> None:
    keeper = keep(acquire(tmp_path))
    leases._take_away(tmp_path, keeper.lease.token)
    RunPaths(tmp_path).lease.rmdir()
    leave(tmp_path, ELSEWHERE)
    wait_until(lambda: keeper._lost)
    with pytest.raises(LeaseLostError, match=r"was taken over by process \d+ on elsewhere.* writes nothing more"):
        keeper.check()
    assert LeaseLostError.exit_code == 1


def test_a_survivor_knows_at_once_that_it_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Callable[[Lease], LeaseKeeper]
) -> None:
    """The rank that took it has told the others of it, then slept, and ended when it saw that it was lost."""
    monkeypatch.setattr(leases, "RENEW_S", 60.0)
    lease = acquire(tmp_path)
    lease.release()
    leave(tmp_path, ELSEWHERE)
    keeper = keep(lease)
    with pytest.raises(LeaseLostError, match=r"by process \d+ on elsewhere.* no sign of life for long, as one that is"):
        keeper.check()


def test_it_is_lost_though_the_other_has_ended(tmp_path: Path, keep: Callable[[Lease], LeaseKeeper]) -> None:
    keeper = keep(acquire(tmp_path))
    keeper.lease.release()
    wait_until(lambda: keeper._lost)
    with pytest.raises(LeaseLostError, match="was taken over by another job, which has ended"):
        keeper.on_step(1)


@pytest.mark.usefixtures("_expiring")
def test_it_is_not_lost_while_the_folder_is_away(tmp_path: Path, keep: Callable[[Lease], LeaseKeeper]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    keeper = keep(acquire(folder))

    def renewed() -> bool:
        return clock() - keeper._renewed_at < leases.RENEW_S

    away = folder.rename(tmp_path / "away")
    wait_until(lambda: clock() - keeper._renewed_at > 4 * leases.RENEW_S)
    keeper.check()
    away.rename(folder)
    wait_until(renewed)
    folder.rename(away)
    folder.mkdir()  # by whoever deleted it, or by a checkpoint
    wait_until(RunPaths(folder).lease.exists)
    wait_until(renewed)
    keeper.check()
    time.sleep(leases.LEASE_S)
    acquire(away)  # which nobody trains into any more
    folder.rename(tmp_path / "away, too")
    away.rename(folder)
    wait_until(lambda: keeper._lost)


def test_it_counts_as_renewed_when_the_write_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Callable[[Lease], LeaseKeeper]
) -> None:
    now, pwrite = [1000.0], os.pwrite

    def late(*arguments: Any) -> int:
        now[0] += 100.0
        return pwrite(*arguments)

    monkeypatch.setattr("hpcnn.runs.lease.keeper.clock", lambda: now[0])
    monkeypatch.setattr(leases, "RENEW_S", 60.0)
    monkeypatch.setattr(os, "pwrite", late)
    assert keep(acquire(tmp_path))._renewed_at == 1000.0


def test_neither_steps_nor_the_end_wait_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = LeaseKeeper(acquire(tmp_path))
    hangs, answers, pwrite = threading.Event(), threading.Event(), os.pwrite

    def hang(*arguments: Any) -> int:
        hangs.set()
        answers.wait()
        return pwrite(*arguments)

    def end() -> str:
        keeper._looked_at = keeper._renewed_at = -math.inf
        keeper.on_step(1)
        keeper.close()
        return "ended"

    monkeypatch.setattr("hpcnn.runs.lease.keeper._CLOSE_S", 0.1)
    monkeypatch.setattr(os, "pwrite", hang)
    try:
        assert hangs.wait(60)
        assert in_time(end) == "ended"
        assert [path.name for path in RunPaths(tmp_path).lease.iterdir()] == [keeper.lease.token]
    finally:
        answers.set()
    keeper._thread.join()
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------------------------------- a whole training

JOB = {
    "data": {"source": "synthetic", "kind": "linear", "samples": 40, "features": 3},
    "model": {"layers": [{"type": "dense", "units": 1}]},
    "loss": {"name": "mse"},
    "train": {"epochs": 4, "batch_size": 10, "shards": 2},
    "run": {"display": "quiet", "checkpoint_gap_s": 0},
}


class AtEpoch(Callback):
    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        if report.epoch == 2:
            self._action()


def test_a_run_under_way_is_not_gone_on_with(tmp_path: Path) -> None:
    told: list[object] = []

    def second() -> None:
        for resume in ("auto", "never", str(tmp_path)):
            told.extend(at_once(1, partial(hpcnn.fit, JOB, out=tmp_path, resume=resume)))

    fitted = hpcnn.fit(JOB, out=tmp_path, callbacks=[AtEpoch(second)])
    assert [type(each) for each in told] == [RunBusyError] * 3
    assert len(fitted.history) == 4
    assert [json.loads(line)["epoch"] for line in RunFolder(tmp_path).metrics.read_text().splitlines()] == [1, 2, 3, 4]
    assert not RunFolder(tmp_path).lease.exists()


def test_a_training_that_fails_gives_the_folder_back(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        hpcnn.fit(JOB, out=tmp_path, callbacks=[AtEpoch(fail)])
    assert not RunFolder(tmp_path).lease.exists()
    hpcnn.fit(JOB, out=tmp_path, resume="auto", callbacks=[AtEpoch(str)])
    assert RunFolder(tmp_path).result.exists()


def test_a_training_that_has_lost_its_folder_ends_before_it_writes_again(tmp_path: Path) -> None:
    before: list[dict[str, bytes]] = []

    def take_over() -> None:
        (token,) = (path.name for path in RunFolder(tmp_path).lease.iterdir())
        leases._take_away(tmp_path, token)
        acquire(tmp_path)
        before.append(everything_in(tmp_path))
        time.sleep(2 * leases.trust_s())

    with pytest.raises(LeaseLostError, match="was taken over by "):
        hpcnn.fit(JOB, out=tmp_path, callbacks=[AtEpoch(take_over)])
    after = everything_in(tmp_path)
    for each in (before[0], after):
        each.pop(str(RunFolder(tmp_path).metrics))  # whose line was written before, or is not checked in this epoch
    assert after == before[0]
