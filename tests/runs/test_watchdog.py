"""The watchdog's judgement, on ranks and a clock that are made up: who is named when, and who ends the job."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.supervision.heartbeats import Status
from hpcnn.core.activity import EVALUATE, FORWARD, REDUCE, SAVE, SET_UP, WAIT, Activity
from hpcnn.errors import EXIT_STALLED, CommunicatorError, JobError
from hpcnn.runs import watchdog
from hpcnn.runs.thread_probe import ActivityProbe
from hpcnn.runs.watchdog import PATIENCE, Watchdog
from hpcnn.system.processes import Process
from tests.timing import WAIT_S

WARN_S, ABORT_S = 10, 30


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread wait for a core: it is the machine's time, and that of these tests is made up."""
    monkeypatch.setattr(ActivityProbe, "_queued_total_s", lambda probe: 0.0)


class Beats:
    """Heartbeats that arrive at the next look."""

    def __init__(self, mail: dict, rank: int, size: int) -> None:
        distances = [1 << i for i in range((size - 1).bit_length())]
        self.sources = [(rank - distance) % size for distance in distances]
        self.processes = [Process(f"node{each}", 1, "", "", "") for each in range(size)]
        self.left: set[int] = set()
        self.broken = self.closed = self.said_good_bye = False
        self._targets = [(rank + distance) % size for distance in distances]
        self._mail, self._rank = mail, rank

    def beat(self, status: Status | None) -> dict[int, Status]:
        if self.broken:
            raise CommunicatorError("a rank is lost")
        for target in self._targets if status is not None else ():
            self._mail[self._rank, target] = Status.unpack(status.pack())
        pairs = [(source, self._mail.pop((source, self._rank), None)) for source in self.sources]
        return {source: status for source, status in pairs if status is not None}

    def leave(self) -> None:
        self.said_good_bye = True

    def close(self) -> None:
        self.closed = True


class Rank:
    """A rank with its watchdog, which a test puts into the state that it wants."""

    def __init__(self, mail: dict, rank: int, size: int, *, deaf: bool = False, **options: float) -> None:
        self.number = rank
        self.activity, self.stop = Activity(), SimpleNamespace(reason=None)
        self.stop.ask = lambda reason: setattr(self.stop, "reason", reason)
        self.beats = Beats(mail, rank, size)
        self.said: list[str] = []
        self.codes: list[int] = []
        self.alive, self.busy, self.works = True, False, False
        comm = SimpleNamespace(
            rank=rank,
            size=size,
            host=f"node{rank}",
            activity=self.activity,
            fault_tolerance=SimpleNamespace(heartbeats=lambda: self.beats if size > 1 and not deaf else None),
        )
        times = {"warn_s": WARN_S, "abort_s": ABORT_S} | options
        self.dog = Watchdog(comm, **times, stop=self.stop, end=self.codes.append, tell=self.said.append)
        self.dog._probe.was_active = lambda seconds: self.busy
        self.activity.seconds.update({FORWARD: 1.0, REDUCE: 1.0, WAIT: 1.0})  # not for the first time any more
        self.activity.step, self.activity.epoch = 20, 1

    def look(self) -> None:
        if self.works:
            self.activity.enter(FORWARD)
        if self.alive and not self.codes:
            self.dog.look(1.0)


def make(size: int, **options: float) -> list[Rank]:
    mail: dict = {}
    ranks = [Rank(mail, rank, size, **options) for rank in range(size)]
    for rank in ranks:
        rank.activity.phase = WAIT
        rank.look()
    return ranks


def pass_time(ranks: list[Rank], seconds: int, until: Callable[[], object] = lambda: False) -> int:
    """Let `seconds` pass, or less; return how many did."""
    for second in range(1, seconds + 1):
        for rank in ranks:
            rank.look()
        if until() or any(rank.codes for rank in ranks):
            return second
    return seconds


def said(ranks: list[Rank]) -> list[tuple[int, str]]:
    """Return the first line of each message, with the rank that said it."""
    return [(number, text.splitlines()[0]) for number, rank in enumerate(ranks) for text in rank.said]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17])
def test_a_rank_that_hangs_names_itself_and_ends_the_job(size: int) -> None:
    ranks = make(size)
    stuck = ranks[size // 2]
    stuck.activity.phase = FORWARD
    name = f"rank {size // 2} on node{size // 2}"
    assert pass_time(ranks, 50, until=lambda: stuck.said) == WARN_S
    where = "phase forward, step 20 (epoch 1)"
    assert said(ranks) == [(size // 2, f"hpcnn: warning: {name} has made no progress for 10 s: {where}")]
    assert WARN_S + pass_time(ranks, 50) == ABORT_S
    assert stuck.codes == [EXIT_STALLED]
    assert said(ranks)[1:] == [(size // 2, f"hpcnn: error: {name} has made no progress for 30 s: {where}")]
    assert stuck.said[1].endswith("\nThe job ends, since run.stall_abort_s = 30.")


def test_others_wait_while_one_makes_progress() -> None:
    """However long they wait, and though it does not touch them."""
    ranks = make(5)
    ranks[3].works = True
    pass_time(ranks, 500)
    assert said(ranks) == []


@pytest.mark.parametrize("phase", [FORWARD, REDUCE, EVALUATE, SAVE, SET_UP])
def test_what_is_done_for_the_first_time_may_take_long_if_it_is_busy(phase: str) -> None:
    first = phase not in (FORWARD, REDUCE)
    ranks = make(3)
    ranks[1].activity.phase, ranks[1].busy = phase, True
    took = pass_time(ranks, 1000, until=lambda: ranks[1].said)
    assert took == (PATIENCE * WARN_S + WARN_S if first else WARN_S)
    assert [rank for rank, _ in said(ranks)] == [1]


def test_what_sleeps_is_not_busy() -> None:
    ranks = make(3)
    ranks[1].activity.phase = EVALUATE
    assert pass_time(ranks, 1000, until=lambda: ranks[1].said) == WARN_S


def test_a_rank_that_waits_is_not_busy_however_it_spins() -> None:
    ranks = make(2)
    for rank in ranks:
        rank.busy = True
        del rank.activity.seconds[WAIT]
    assert pass_time(ranks, 100, until=lambda: ranks[0].said) < 2 * WARN_S


def test_what_a_warning_takes_is_no_progress() -> None:
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        compute()

    dog = Watchdog(SerialCommunicator(), warn_s=2, abort_s=0, tell=tell)
    for _ in range(10):
        dog.look(1.0)
    assert len(said) == 1


def compute() -> None:
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass


def test_each_new_phase_has_its_own_patience() -> None:
    ranks = make(2)
    ranks[1].busy = True
    for _ in range(5):
        ranks[1].activity.enter(SAVE)
        pass_time(ranks, PATIENCE * WARN_S - 5)
    assert said(ranks) == []


def test_time_spent_waiting_is_not_time_without_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a call of the communicator a rank waits, in whatever phase; what it does after that takes a moment."""
    ranks = make(3)
    ranks[1].activity.phase = REDUCE
    ranks[1].dog._watched = 1
    ranks[2].works = True
    monkeypatch.setattr(watchdog, "is_within", lambda thread, package: (thread, package) == (1, "hpcnn.comm"))
    pass_time(ranks, 100)
    monkeypatch.undo()
    pass_time(ranks, WARN_S - 1)
    assert said(ranks) == []
    pass_time(ranks, 2)
    assert [rank for rank, _ in said(ranks)] == [1]


@pytest.mark.parametrize(("size", "silent"), [(2, 0), (2, 1), (3, 0), (5, 4), (17, 7)])
def test_a_silent_rank_is_named_by_its_right_neighbour(size: int, silent: int) -> None:
    ranks = make(size)
    pass_time(ranks, 2)
    ranks[silent].alive = False
    right = (silent + 1) % size
    assert WARN_S <= pass_time(ranks, 50, until=lambda: ranks[right].said) <= WARN_S + 1
    line = f"rank {silent} on node{silent} has given no sign of life for 10 s; its last: phase wait, step 20 (epoch 1)"
    assert said(ranks) == [(right, f"hpcnn: warning: {line}")]
    pass_time(ranks, 50)
    assert [number for number, rank in enumerate(ranks) if rank.codes] == [right]
    assert "no sign of life for 30 s" in ranks[right].said[1]


def test_several_silent_ranks_of_one_node() -> None:
    """The last of them has a neighbour that lives; nobody else says anything."""
    ranks = make(8)
    pass_time(ranks, 2)
    for number in (2, 3, 4):
        ranks[number].alive = False
    pass_time(ranks, 100)
    assert [(rank, "no sign of life" in text) for rank, text in said(ranks)] == [(5, True)] * 2
    assert "rank 4 on node4" in ranks[5].said[0]


def test_a_rank_that_has_left_is_not_missed() -> None:
    ranks = make(2)
    ranks[1].works, ranks[0].alive = True, False
    ranks[1].beats.left.add(0)
    pass_time(ranks, 500)
    assert said(ranks) == []


@pytest.mark.parametrize("size", [2, 3, 5, 17, 40])
def test_all_wait_for_one_another(size: int) -> None:
    ranks = make(size)
    took = pass_time(ranks, 100, until=lambda: ranks[0].said)
    margin = 2 * (1 + (size - 1).bit_length())
    assert took == WARN_S + margin
    pass_time(ranks, 2)
    first, *others = said(ranks)
    assert first[1].startswith(f"hpcnn: warning: nobody has made progress for {took} s, and all ranks wait for one")
    assert "\nrank 0 on node0 waits in phase wait, step 20 (epoch 1)\n" in ranks[0].said[0]
    for number, (rank, text) in enumerate(others, 1):
        name = f"rank {number} on node{number}"
        assert (rank, text) == (number, f"hpcnn: warning: {name} waits in phase wait, step 20 (epoch 1)")
    assert len(others) == min(size, 16) - 1
    assert 0 <= took + 2 + pass_time(ranks, 100) - ABORT_S - margin <= 1
    assert [number for number, rank in enumerate(ranks) if rank.codes] == [0]
    assert ranks[0].said[-1].startswith("hpcnn: error: nobody has made progress for ")


def test_others_end_the_job_if_rank_0_does_not() -> None:
    ranks = make(3)
    ranks[0].dog._give_up = lambda rank, text: None
    assert ABORT_S + 2 * 6 <= pass_time(ranks, 100) <= ABORT_S + 2 * 6 + 1
    assert EXIT_STALLED in ranks[1].codes + ranks[2].codes


def test_a_named_rank_that_makes_progress_again_is_announced() -> None:
    ranks = make(3)
    ranks[1].activity.phase = FORWARD
    pass_time(ranks, WARN_S + 5)
    ranks[1].works = True
    pass_time(ranks, 5)
    ranks[1].works, ranks[1].alive = False, False
    pass_time(ranks, WARN_S + 2)
    ranks[1].alive = ranks[1].works = True
    pass_time(ranks, 100)
    assert [(rank, text.removeprefix("hpcnn: ")[:40]) for rank, text in said(ranks)] == [
        (1, "warning: rank 1 on node1 has made no pro"),
        (1, "rank 1 on node1 is making progress again"),
        (2, "warning: rank 1 on node1 has given no si"),
        (2, "rank 1 on node1 is making progress again"),
    ]


def test_a_stop_request_reaches_all_ranks() -> None:
    ranks = make(9)
    ranks[4].stop.reason = "SIGTERM"
    for rank in ranks:
        rank.works = True
    assert pass_time(ranks, 20, until=lambda: all(rank.stop.reason for rank in ranks)) <= 5
    assert {rank.stop.reason for rank in ranks} == {"SIGTERM"}


@pytest.mark.parametrize("options", [{"warn_s": 0}, {"abort_s": 0}])
def test_either_can_be_off(options: dict[str, float]) -> None:
    ranks = make(3, **options)
    ranks[1].activity.phase = FORWARD
    pass_time(ranks, 200)
    assert bool(ranks[1].codes) == ("warn_s" in options)
    assert [rank for rank, text in said(ranks)] == [1]
    assert ("The job ends" in ranks[1].said[0]) == ("warn_s" in options)


def test_both_off_start_nothing() -> None:
    comm = SerialCommunicator()
    comm.fault_tolerance = None  # not even asked for
    with Watchdog(comm, warn_s=0, abort_s=0) as dog:
        assert not dog._thread.is_alive()


@pytest.mark.parametrize("how", ["deaf", "broken"])
def test_without_a_channel_each_looks_after_itself(how: str) -> None:
    ranks = make(3, **({"deaf": True} if how == "deaf" else {}))
    for rank in ranks:
        rank.beats.broken = how == "broken"
    ranks[1].activity.phase = FORWARD
    pass_time(ranks, WARN_S)
    assert [rank for rank, _ in said(ranks)] == [1]
    for rank in ranks:
        rank.said.clear()
    ranks[1].alive = False  # the others can't know what it does, and wait for as long as it may take
    took = pass_time(ranks, 500)
    assert took + WARN_S == PATIENCE * WARN_S + ABORT_S
    assert [number for number, rank in enumerate(ranks) if rank.codes] == [0]


@pytest.mark.parametrize(("spare", "near"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("silent", [True, False])
def test_a_rank_that_others_can_do_without_is_killed_alone(
    monkeypatch: pytest.MonkeyPatch, silent: bool, spare: bool, near: bool
) -> None:
    """If this one can reach it: be it itself, or its left neighbour."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda process, number: killed.append((process, number)))
    ranks = make(2, spare=spare)
    for rank in ranks:
        own = Process.own(f"node{rank.number}")
        here = own if near else replace(own, boot="another")
        rank.beats.processes = [here, here]
    pass_time(ranks, 2)
    ranks[0].activity.phase, ranks[0].alive = FORWARD, not silent
    pass_time(ranks, 50, until=lambda: killed)
    speaker = ranks[1] if silent else ranks[0]
    assert killed == ([(os.getpid(), signal.SIGKILL)] if spare and near else [])
    assert speaker.codes == ([] if spare and near else [EXIT_STALLED])
    assert speaker.said[-1].endswith(
        f"\n{'Rank 0' if spare and near else 'The job'} ends, since run.stall_abort_s = 30."
    )


def test_a_suspended_job_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passes while the watchdog does not run does not count."""
    now = [0.0]
    monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: now[0]))
    said: list[str] = []
    with Watchdog(SerialCommunicator(), warn_s=2, abort_s=0, tell=said.append):
        now[0] += 1e6
        time.sleep(0.7)
        assert said == []
        deadline = time.monotonic() + WAIT_S
        while not said and time.monotonic() < deadline:
            now[0] += 0.1
            time.sleep(0.01)
    assert "has made no progress for 2 s: phase set-up\n" in said[0]
    assert "in test_a_suspended_job_is_not_stuck" in said[0]


def test_the_watched_thread_is_the_one_that_made_it() -> None:
    """If it computes, in a set-up, that is progress; if another one does, it is not."""
    said: list[str] = []
    dog = Watchdog(SerialCommunicator(), warn_s=2, abort_s=0, tell=said.append)
    for _ in range(5):
        compute()
        dog.look(1.0)
    assert said == []
    for _ in range(2):
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        dog.look(1.0)
    assert len(said) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of watchdogs, which a pause moves on; `then` is done once it shows `at`."""
    time = SimpleNamespace(now=0.0, at=math.inf, then=lambda: None)

    def sleep(seconds: float) -> None:
        time.now += seconds
        if time.now >= time.at:
            time.then()

    time.monotonic, time.sleep = lambda: time.now, sleep
    monkeypatch.setattr(watchdog, "time", time)
    return time


def leave(rank: Rank, clock: SimpleNamespace, error: Exception | None = None) -> float:
    """Let the watchdog go, and return how long that took."""
    begin = clock.now
    with suppress(ValueError), rank.dog:
        if error is not None:
            raise error
    assert not rank.dog._thread.is_alive()
    assert rank.beats.said_good_bye
    assert rank.beats.closed
    return clock.now - begin


def test_neighbours_leave_together(clock: SimpleNamespace) -> None:
    """Neighbours wait for each other, or MPI complains of messages that nobody has read; but not if all is lost."""
    first, second = make(2)
    first.beats.left.add(1)
    assert leave(first, clock) == 0
    assert leave(second, clock, ValueError()) == 0
    first, second = make(2)
    clock.at, clock.then = 0.8, lambda: first.beats.left.add(1)
    assert 0.79 < leave(first, clock) < 0.82
    assert 0.49 < leave(second, clock, JobError()) < 0.52
    first, _ = make(2)
    first.beats.broken = True
    first.dog.close(60)
    assert first.beats.closed


def test_a_neighbour_that_never_leaves(clock: SimpleNamespace) -> None:
    first, _ = make(2, warn_s=0.1, abort_s=0.3)
    first.dog._give_up = lambda rank, text: first.said.append(text) or first.beats.left.add(1)
    assert 0.29 < leave(first, clock) < 0.4
    assert ["rank 1 on node1 has given no sign of life" in text for text in first.said[:2]] == [True, True]
