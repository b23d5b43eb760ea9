"""A job that has lost its lease stops, and writes nothing more."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hpcnn
from hpcnn.core.run_paths import RunPaths
from hpcnn.runs.lease import lease as leases
from hpcnn.runs.lease.keeper import LeaseKeeper, LeaseLostError
from hpcnn.runs.lease.lease import Lease, RunBusyError, acquire
from hpcnn.runs.lease.owner import clock
from hpcnn.runs.run_folder import RunFolder
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica
from tests.runs.lease.helpers import ELSEWHERE, LOST, at_once, everything_in, forked, in_time, leave
from tests.small_jobs import at_step
from tests.timing import wait_until


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
        keeper.on_step(at_step(1))


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
        keeper._look_at = keeper._renewed_at = -math.inf
        keeper.on_step(at_step(1))
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


def test_a_running_run_is_not_resumed(tmp_path: Path) -> None:
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
