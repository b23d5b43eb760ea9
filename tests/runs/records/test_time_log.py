"""The account of time: all ranks, all phases, few lines, and whom the others wait for."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.core.activity import FORWARD, PHASES, SAVE, SET_UP, WAIT
from hpcnn.runs.prediction.model import Sums
from hpcnn.runs.prediction.record import ExchangeRecord
from hpcnn.runs.records.time_log import GROUPS, TimeLog, find_straggler, shares
from hpcnn.runs.run_folder import RunFolder
from hpcnn.training.callbacks import Control, EpochReport
from tests.small_jobs import at_step

REPORT = EpochReport(1, 10, 0.1, {}, 1.0, 1.0)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFolder(folder).time.read_text().splitlines()]


def begun(folder: Path, comm: Any = None) -> TimeLog:
    account = TimeLog(comm or SerialCommunicator(), RunFolder(folder))
    account.on_train_begin(0, None)  # type: ignore[arg-type]
    return account


def end_epoch(account: TimeLog) -> None:
    account.on_epoch_end(REPORT, None, Control())  # type: ignore[arg-type]


def test_a_line_holds_the_seconds_of_all_ranks_since_the_one_before(tmp_path: Path) -> None:
    def body(comm: ThreadCommunicator) -> TimeLog:
        account, activity = begun(tmp_path, comm), comm.activity
        activity.epoch, activity.step = 1, 10
        activity.seconds[FORWARD] += 10.0 + comm.rank
        account.on_step(at_step(10))
        end_epoch(account)
        activity.epoch, activity.step = 2, 20
        activity.seconds[FORWARD] += 0.5
        activity.seconds[WAIT] += comm.rank
        account.gather()
        return account

    accounts = run_threads(3, body, host_of_rank=[0, 0, 1])
    first, second = lines_of(tmp_path)
    assert (first["epoch"], first["step"], second["epoch"], second["step"]) == (1, 10, 2, 20)
    assert [host.rpartition("-")[2] for host in first["hosts"]] == ["0", "0", "1"]
    assert (first["steps"], second["steps"]) == (1, 0)
    assert set(first["seconds"]) == set(PHASES)
    assert first["seconds"][FORWARD] == [10.0, 11.0, 12.0]
    assert second["seconds"][FORWARD] == [0.5, 0.5, 0.5]
    assert second["seconds"][WAIT] == [0.0, 1.0, 2.0]
    assert all(0 <= each < 5 for each in first["seconds"][SET_UP])
    for account in accounts:  # any of them may be rank 0 once others are lost
        assert account.totals[FORWARD] == pytest.approx(34.5)


def test_the_first_line_on_some_ranks_says_what_their_exchange_depends_on(tmp_path: Path) -> None:
    record = ExchangeRecord(64, Sums(100, 8, ()), None, 1e-11)
    account = TimeLog(SerialCommunicator(), RunFolder(tmp_path), lambda comm, replica, hosts: record)
    for _ in range(2):
        account.on_train_begin(0, None)  # type: ignore[arg-type]
        for step in (1, 2):
            account.on_step(at_step(step))
            account.gather()
    assert [line["steps"] for line in lines_of(tmp_path)] == [1, 1, 1, 1]
    assert [line.get("exchange") for line in lines_of(tmp_path)] == [json.loads(json.dumps(record.plain)), None] * 2
    assert (account.times.record, account.times.hosts) == (record, (SerialCommunicator().host,))


def test_what_is_under_way_counts_and_phases_not_met_stay_unknown(tmp_path: Path) -> None:
    """The watchdog is patient with a phase that has no seconds yet: it may be compiling."""
    comm = SerialCommunicator()
    account = begun(tmp_path, comm)
    comm.activity.enter(FORWARD)
    comm.activity.since -= 100
    account.gather()
    assert lines_of(tmp_path)[0]["seconds"][FORWARD][0] >= 100
    assert set(comm.activity.seconds) == {SET_UP, FORWARD}


@pytest.mark.parametrize(
    ("steps", "took_s", "elapsed_s", "gap", "within"),
    [
        (100, 2.0, 2.0, 50, 500),
        (1, 30.0, 30.0, 1, 1),
        (7200, 7.2, 36000.0, 72000, 72000),
        (10, 0.0, 0.0, 10**10, 10**11),
    ],
)
def test_after_how_many_steps_the_next_line_comes(
    tmp_path: Path, steps: int, took_s: float, elapsed_s: float, gap: int, within: int
) -> None:
    """One second apart, but a five-hundredth of the time so far in long runs; ten times that within an epoch."""
    account = begun(tmp_path)
    account._steps = steps
    account._plan(took_s, elapsed_s)
    assert (account._gap, account._within) == (gap, within)


def test_all_ranks_gather_alike_whatever_their_clocks_say(tmp_path: Path) -> None:
    """A rank whose clock goes faster would else gather alone."""

    def body(comm: ThreadCommunicator) -> tuple[int, int]:
        account = begun(tmp_path, comm)
        account._since -= 1000.0 * comm.rank
        for _ in range(30):
            for step in range(1, 4):
                account.on_step(at_step(step))
            end_epoch(account)
        account.gather()
        return account._gap, account._within

    first, *others = run_threads(3, body)
    assert others == [first, first]


def test_short_epochs_share_a_line_and_a_long_one_has_several(tmp_path: Path) -> None:
    account = begun(tmp_path)
    for _ in range(500):
        account.on_step(at_step(1))
        end_epoch(account)
    assert len(lines_of(tmp_path)) < 50
    tmp_path = tmp_path / "another"
    tmp_path.mkdir()
    account = begun(tmp_path)
    for step in range(1, 51):
        account.on_step(at_step(step))
    assert len(lines_of(tmp_path)) == 1


def test_a_line_that_was_cut_off_is_ended_first(tmp_path: Path) -> None:
    RunFolder(tmp_path).time.write_text('{"epoch": 1, "st')
    begun(tmp_path).gather()
    cut_off, line = RunFolder(tmp_path).time.read_text().splitlines()
    assert cut_off == '{"epoch": 1, "st'
    assert json.loads(line)["hosts"]


def test_where_it_can_not_be_written_that_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    account = begun(tmp_path / "gone")
    account.gather()
    account.gather()
    assert capsys.readouterr().out.count("warning: time.jsonl can't be written (") == 1
    assert sum(account.totals.values()) > 0


def test_groups_hold_every_phase_once() -> None:
    assert sorted(phase for phases in GROUPS.values() for phase in phases) == sorted(PHASES)
    assert sum(shares(dict.fromkeys(PHASES, 2.0)).values()) == pytest.approx(1.0)
    assert shares({})["compute"] == 0.0


@pytest.mark.parametrize(
    ("work", "slowest"),
    [
        ([3.0], None),  # alone
        ([3.0, 3.5], None),  # not by much
        ([3.0, 4.0], (1, 4 / 3)),
        ([9.0, 3.0, 3.0, 4.0], (0, 3.0)),
        ([0.1, 0.3], None),  # too short to mean anything
        ([0.0, 3.0], None),  # too few shards for all
    ],
)
def test_the_slowest_rank(work: list[float], slowest: tuple[int, float] | None) -> None:
    seconds = {FORWARD: work, WAIT: [100.0] * len(work), SAVE: [50.0, *[0.0] * (len(work) - 1)]}
    found = find_straggler([f"host{rank}" for rank in range(len(work))], seconds)
    assert (found and (found.rank, pytest.approx(found.ratio))) == slowest
    assert found is None or found.host == f"host{found.rank}"


def test_the_slowest_rank_of_the_last_line(tmp_path: Path) -> None:
    def body(comm: Any) -> Any:
        account = begun(tmp_path, comm)
        comm.activity.seconds[FORWARD] += 4.0 if comm.rank == 1 else 1.0
        account.gather()
        first = account.straggler
        comm.activity.seconds[FORWARD] += 1.0
        account.gather()
        return SimpleNamespace(first=first, second=account.straggler)

    for found in run_threads(3, body):
        assert str(found.first).startswith("rank 1 on ")
        assert str(found.first).endswith(" takes 4.0 times as long as the others")
        assert found.second is None
