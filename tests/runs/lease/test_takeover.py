"""A lease whose owner renews it no more, or is dead for certain, is taken over."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpcnn.core.run_paths import RunPaths
from hpcnn.runs.lease import lease as leases
from hpcnn.runs.lease.keeper import LeaseKeeper
from hpcnn.runs.lease.lease import Lease, RunBusyError, acquire
from hpcnn.runs.lease.owner import held_here, read_owner
from hpcnn.system.proc_files import stat_of
from tests.runs.lease.helpers import ELSEWHERE, OWN, TOKEN, at_once, forked, hold, leave
from tests.timing import wait_until


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


def test_processes_of_this_machine() -> None:
    assert not OWN.is_dead()
    assert replace(OWN, start="1").is_dead()  # another got its number
    assert replace(OWN, number=2**22 + 1).is_dead()
    for unknown in ({"boot": "another"}, {"namespace": "another"}, {"boot": "", "namespace": ""}, {"start": ""}):
        assert not replace(OWN, number=2**22 + 1, **unknown).is_dead()


@pytest.mark.parametrize("reaped", [True, False])
def test_after_a_kill_it_is_free_at_once(tmp_path: Path, reaped: bool) -> None:
    child = forked(lambda: hold(tmp_path))
    wait_until((tmp_path / "held").exists)
    with pytest.raises(RunBusyError):
        acquire(tmp_path)
    os.kill(child, signal.SIGKILL)
    if reaped:
        os.waitpid(child, 0)
    else:  # a large process takes its time to die, and its threads go one by one
        wait_until(lambda: stat_of(child)[0] == "Z" and len(list(Path(f"/proc/{child}/task").iterdir())) == 1)
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
