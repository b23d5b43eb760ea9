"""What the watcher of a rank judges by: real processes that die or are stopped, and pages that ranks would show."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hpcnn
from hpcnn.comm.launcher import Launch
from hpcnn.comm.supervision import siblings as siblings_module
from hpcnn.comm.supervision import watcher
from hpcnn.comm.supervision.near_rank import NearRank
from hpcnn.comm.supervision.rank_page import (
    ALL_NEAR,
    CONNECTED,
    ENDED,
    LEAVING,
    PAGE_BYTES,
    RECOVERING,
    SPARE,
    STACK_SIGNAL,
    WATCHED,
    RankPage,
    RankSnapshot,
)
from hpcnn.comm.supervision.siblings import NEVER_CAME_S, Siblings, launcher_of
from hpcnn.comm.supervision.watched_rank import WatchedRank
from hpcnn.comm.supervision.watcher import Watcher
from hpcnn.core.activity import Activity
from hpcnn.system.proc_files import children_of, start_time, state_of, variable_of
from hpcnn.system.processes import Process
from tests.timing import WAIT_S, wait_until

VARIABLE = "RANK_OF_A_TEST"
LAUNCHER = "".join(f"{VARIABLE}={rank} sleep 1000 & " for rank in range(3)) + "wait"
ABORT_S = 30.0


@pytest.fixture
def launcher() -> Iterator[int]:
    """Return a process that has started three ranks."""
    with subprocess.Popen(["sh", "-c", LAUNCHER], start_new_session=True) as process:
        wait_until(lambda: len(ranks_below(process.pid)) == 3)
        yield process.pid
        os.killpg(process.pid, signal.SIGKILL)


def ranks_below(launcher: int) -> dict[str, int]:
    found = {variable_of(child, VARIABLE): child for child in children_of(launcher)}
    return {rank: child for rank, child in found.items() if rank is not None}


def send(process: int, number: signal.Signals, *states: str) -> None:
    """Send a signal, and wait for the state that follows; Z is also that of a process that is gone."""
    os.kill(process, number)
    wait_until(lambda: state_of(process) in states)


def test_a_rank_that_dies_before_it_is_connected(launcher: int) -> None:
    siblings = Siblings(launcher, VARIABLE, 3)
    assert not siblings.look(1000.0)
    victim = ranks_below(launcher)["1"]
    send(victim, signal.SIGKILL, "Z")
    expected = f"rank 1 died before all ranks were connected (its process {victim} is gone)"
    assert siblings.look(0.1) == expected
    assert siblings.look(0.1) == expected


def test_a_rank_that_was_never_seen(launcher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = Siblings(launcher, VARIABLE, 4)
    assert not siblings.look(1000.0), "nothing is known of what started this one: a container's starter, say"
    monkeypatch.setattr(siblings_module, "LAUNCHERS", {"sh"})
    assert not siblings.look(0.0)
    assert not siblings.look(NEVER_CAME_S / 2)
    dead = "1 of this host's 4 ranks died before all ranks were connected (left: 0, 1, 2)"
    assert siblings.look(NEVER_CAME_S) == dead


def test_a_launcher_that_may_yet_start_ranks(launcher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings_module, "LAUNCHERS", {"sh"})
    siblings = Siblings(launcher, VARIABLE, 4)
    send(launcher, signal.SIGSTOP, "T")
    assert not siblings.look(1000.0)
    send(launcher, signal.SIGCONT, "S")
    assert siblings.look(1000.0)


def test_ranks_that_are_stopped_before_they_are_connected(launcher: int) -> None:
    siblings, ranks = Siblings(launcher, VARIABLE, 3), ranks_below(launcher)
    send(ranks["2"], signal.SIGSTOP, "T")
    assert not siblings.look(20.0)
    assert not siblings.stopped(ABORT_S)
    assert not siblings.look(20.0)
    assert siblings.stopped(ABORT_S) == f"rank 2, whose process {ranks['2']} is stopped, does not connect"
    for rank in ("0", "1"):
        send(ranks[rank], signal.SIGSTOP, "T")
    siblings.look(20.0)
    assert not siblings.stopped(ABORT_S), "a job that is suspended is not stuck"


def test_who_started_a_rank() -> None:
    """The launcher is above whatever else belongs to the rank: a shell, a tool that measures."""
    environment = {**os.environ, VARIABLE: "0"}
    with subprocess.Popen(["sh", "-c", "sleep 1000; true"], env=environment, start_new_session=True) as shell:
        wait_until(lambda: children_of(shell.pid))
        (rank,) = children_of(shell.pid)
        assert launcher_of(rank, VARIABLE) == os.getpid()
        os.killpg(shell.pid, signal.SIGKILL)


class Watched:
    """A watcher of this process, as rank 0, beside rank 1, which sleeps; it notes what it would end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sleeper = subprocess.Popen(["sleep", "1000"])
        self.ended: list[str] = []
        self.page, self.near_page = RankPage(mmap.mmap(-1, PAGE_BYTES)), RankPage(mmap.mmap(-1, PAGE_BYTES))
        self._beats = 0
        self.show(stage=CONNECTED)
        monkeypatch.setattr(Watcher, "_end", lambda _, why, abort_s: self.ended.append(f"{why} ({abort_s:g})"))
        monkeypatch.setattr(Watcher, "_end_rank", lambda _, one, why, abort_s: self.ended.append(f"alone: {one.rank}"))
        siblings, launcher = Siblings(os.getppid(), VARIABLE, 0), os.getppid()
        self.watcher = Watcher(self.page, os.getpid(), 0, siblings, launcher, outlive=True)
        monkeypatch.setattr(watcher, "NearRank", self._near)

    def _near(self, *entry: int) -> NearRank:
        near = NearRank(*entry)
        near.page = self.near_page
        return near

    def show(self, *, stage: int, wait: int = 0, flags: int = 0, abort_s: float = 0.0) -> None:
        """Show what the rank would."""
        began = start_time(self.sleeper.pid)
        for name, value in (("stage", stage), ("beats", self._beats), ("wait", wait), ("flags", flags)):
            self.page.write(name, value)
        self.page.write_seconds("abort_s", abort_s)
        self.page.write_activity("phase wait")
        if began:
            self.page.write_near([(1, self.sleeper.pid, began, 0)])

    def pass_s(self, seconds: float, *, beats: bool = True) -> list[str]:
        """Let time pass, and return what the watcher would have ended."""
        for _ in range(round(seconds / 0.25)):
            self._beats += beats
            self.page.write("beats", self._beats)
            self.watcher.look(0.25)
        return self.ended

    def close(self) -> None:
        self.sleeper.kill()
        self.sleeper.wait()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    made = Watched(monkeypatch)
    yield made
    made.close()


def kill(watched: Watched) -> None:
    watched.pass_s(0.25)
    watched.sleeper.kill()
    watched.sleeper.wait()


def test_nobody_waits_for_a_rank_that_is_gone(watched: Watched) -> None:
    kill(watched)
    watched.show(stage=CONNECTED, wait=7)
    assert not watched.pass_s(watcher.UNREPORTED_S - 0.5)
    watched.pass_s(1)
    gone = f"rank 1, whose process {watched.sleeper.pid} is gone, will not come"
    assert watched.ended[0] == f"{gone}: rank 0 waits for it in vain: phase wait (0)"


def test_who_gets_on_without_the_dead_is_let_be(watched: Watched) -> None:
    kill(watched)
    for wait in (0, 7, 0, 8, 9):
        watched.show(stage=CONNECTED, wait=wait)
        assert not watched.pass_s(watcher.UNREPORTED_S - 0.5)


def test_a_rank_in_which_no_python_runs_beside_one_that_is_gone(watched: Watched) -> None:
    kill(watched)
    watched.show(stage=CONNECTED)
    assert not watched.pass_s(watcher.DEAF_S - 1, beats=False)
    assert watched.pass_s(2, beats=False)


@pytest.mark.parametrize(("state", "shown"), [("S", 2), ("D", 2), ("R", 0)])
def test_where_a_rank_is_in_which_no_python_runs(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], state: str, shown: int
) -> None:
    """Once for each time, and only within a system call: to read the stack of running Python may crash it."""
    signals: list[int] = []
    watched.page.write_seconds("stack_s", 30.0)
    with monkeypatch.context() as patch:
        patch.setattr(watcher.os, "kill", lambda process, number: signals.append(number))
        patch.setattr(watcher, "state_of", lambda process: state)
        for _ in range(2):
            watched.pass_s(29.5, beats=False)
            before = len(signals)
            watched.pass_s(60, beats=False)
            assert len(signals) - before == shown // 2
            watched.pass_s(1)
    assert signals == [STACK_SIGNAL] * shown
    said = "hpcnn: no Python of rank 0 has run for 30 s; its main thread:\n"
    assert capfd.readouterr().err == said * shown


def test_nobody_waits_for_a_rank_that_has_come_to_its_end(watched: Watched) -> None:
    watched.near_page.write("stage", LEAVING)
    assert not watched.pass_s(100)
    watched.show(stage=CONNECTED, wait=7)
    assert "rank 1, which has come to the end of its program, will not come" in watched.pass_s(7)[0]


@pytest.mark.parametrize(("other", "killed"), [(ENDED, False), (LEAVING, True), (CONNECTED, True)])
def test_who_takes_long_to_end_is_killed_only_if_another_has_died(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, other: int, killed: bool
) -> None:
    """MPI_Finalize may wait for the dead; but to end may also take long, as with TensorFlow on a busy machine."""
    watched.near_page.write("stage", other)
    kill(watched)
    signals: list[int] = []
    monkeypatch.setattr(watcher.os, "kill", lambda process, number: signals.append(number))
    watched.show(stage=LEAVING)
    assert not watched.pass_s(60)
    assert bool(signals) is killed


def test_a_rank_whose_page_can_not_be_seen_has_not_died(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "near_page", None)
    kill(watched)
    signals: list[int] = []
    monkeypatch.setattr(watcher.os, "kill", lambda process, number: signals.append(number))
    watched.show(stage=LEAVING)
    assert not watched.pass_s(60)
    assert not signals


def test_regrouping_takes_no_longer_than_it_may(watched: Watched) -> None:
    watched.show(stage=RECOVERING, wait=7, flags=ALL_NEAR)
    watched.near_page.write("stage", CONNECTED)
    assert not watched.pass_s(60, beats=False), "the other one may be saving: it learns of the loss after that"
    watched.near_page.write("stage", RECOVERING)
    assert not watched.pass_s(watcher.RECOVER_S - 0.5, beats=False)
    assert "rank 0 could not regroup" in watched.pass_s(1, beats=False)[0]


def test_regrouping_with_ranks_that_can_not_be_seen(watched: Watched) -> None:
    watched.show(stage=RECOVERING, wait=7, abort_s=ABORT_S)
    assert not watched.pass_s(ABORT_S - 1)
    assert "within 30 s" in watched.pass_s(2)[0]


def test_a_rank_that_keeps_pythons_lock_when_others_have_ended(watched: Watched) -> None:
    watched.near_page.write("stage", ENDED)
    kill(watched)
    watched.show(stage=CONNECTED)
    assert not watched.pass_s(10 * watcher.DEAF_S, beats=False)


def test_a_call_that_a_busy_rank_has_not_come_to_yet(watched: Watched) -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        watched.sleeper, sleeper = busy, watched.sleeper
        watched.near_page.write("stage", CONNECTED)
        watched.show(stage=CONNECTED, wait=7, flags=ALL_NEAR, abort_s=2.0)
        deadline = time.monotonic() + 3.5
        while time.monotonic() < deadline:
            time.sleep(0.25)
            assert not watched.pass_s(0.25)
        watched.pass_s(2 * watcher.PATIENCE)
        assert watched.ended
        watched.sleeper = sleeper
        busy.kill()


@pytest.mark.parametrize(("flags", "ends"), [(0, True), (WATCHED, False)])
def test_a_call_that_others_do_not_make(watched: Watched, flags: int, ends: bool) -> None:
    watched.near_page.write_activity("phase data")
    watched.show(stage=CONNECTED, wait=7, flags=flags | ALL_NEAR, abort_s=ABORT_S)
    assert not watched.pass_s(ABORT_S - 1)
    watched.pass_s(2)
    assert bool(watched.ended) is ends, "the rank's own watchdog sees to that"
    if ends:
        assert "rank 0 has waited for 30 s for others" in watched.ended[0]
        assert "rank 1 is in phase data" in watched.ended[0]


@pytest.mark.parametrize("flags", [0, WATCHED, SPARE, SPARE | WATCHED])
def test_a_rank_that_is_stopped(watched: Watched, flags: int) -> None:
    watched.show(stage=CONNECTED, wait=7, flags=flags | WATCHED, abort_s=ABORT_S)
    send(watched.sleeper.pid, signal.SIGSTOP, "T")
    assert not watched.pass_s(ABORT_S - 1)
    watched.pass_s(6)
    assert watched.ended
    assert watched.ended[0].startswith("alone: 1" if flags & SPARE else "rank 1, whose process")


def test_a_launcher_that_is_gone(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not watched.pass_s(10)
    monkeypatch.setattr(watcher, "start_time", lambda process: 0)
    assert "the launcher, whose process was" in watched.pass_s(watcher.UNREPORTED_S + 1)[0]


def test_a_launcher_that_does_not_end_without_ranks(launcher: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "UNREPORTED_S", 0.3)
    with subprocess.Popen(["sleep", "1000"]) as alone:
        watcher.end_launcher(alone.pid, start_time(alone.pid) + 1)
        assert alone.poll() is None, "this is another one"
        watcher.end_launcher(launcher, start_time(launcher))
        assert start_time(launcher), "it still has ranks"
        watcher.end_launcher(alone.pid, start_time(alone.pid))
        assert alone.wait(WAIT_S) == -signal.SIGTERM


# ------------------------------------------------------------------------------------------------ the rank's own side


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchedRank]:
    """Return a rank of two with its watcher; the other one has another host."""
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    rank = WatchedRank()
    rank.start(Launch("a test", 2, 0))
    rank.joined(Activity(), [(Process.own(), -1), (Process("there", 1, "", "", ""), -1)], 0)
    yield rank
    rank.end()
    assert rank._child is not None
    assert rank._child.poll() is None, "it watches until this process is gone"
    rank._child.kill()
    rank._child.wait()


def shown(rank: WatchedRank) -> RankSnapshot:
    assert rank._page is not None
    return RankSnapshot(rank._page)


def limits(rank: WatchedRank) -> tuple[int, int, float]:
    now = shown(rank)
    return now.flags, now.near, now.abort_s


def test_what_a_rank_shows(supervised: WatchedRank) -> None:
    assert shown(supervised).stage == CONNECTED
    with supervised.limited(5.0, spare=True), supervised.limited(6.0, watched=True):
        assert limits(supervised) == (WATCHED, 0, 6.0)
    assert limits(supervised) == (0, 0, 0.0)
    with supervised.recovering():
        assert shown(supervised).stage == RECOVERING
    wait_until(lambda: shown(supervised).beats > 2)
    assert shown(supervised).wait == 0
    supervised.leave()
    assert shown(supervised).stage == LEAVING


def test_pages_of_other_processes_can_be_read() -> None:
    file = os.memfd_create("page")
    os.ftruncate(file, PAGE_BYTES)
    page = RankPage(mmap.mmap(file, PAGE_BYTES))
    page.write("stage", LEAVING)
    page.write_activity("x" * 1000)
    page.write_near([(1, 2, 3, 4), (5, 6, 7, 8)])
    seen = RankPage.of(os.getpid(), file)
    assert seen is not None
    assert (RankSnapshot(seen).stage, RankSnapshot(seen).activity) == (LEAVING, "x" * 160)
    assert seen.read_near() == [(1, 2, 3, 4), (5, 6, 7, 8)]
    os.close(file)
    assert RankPage.of(os.getpid(), file) is None


def test_a_wait_in_a_call_to_others_has_one_number(supervised: WatchedRank) -> None:
    with ThreadPoolExecutor(1) as other:

        def wait() -> int:
            return other.submit(supervised._wait).result()

        supervised._activity.enter("wait")
        first = wait()
        assert first
        assert wait() == first
        supervised._activity.enter("wait")
        assert wait() != first
        supervised._activity.enter("data")
        assert wait() == 0


def test_the_watcher_leaves_with_its_rank() -> None:
    program = (
        "import os, signal\nfrom hpcnn.comm.launcher import Launch\n"
        "from hpcnn.comm.supervision.watched_rank import watched_rank\n"
        "watched_rank.start(Launch('a test', 2, 0))\nprint(watched_rank._child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PMI_SIZE": "2", "PMI_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, timeout=WAIT_S)
    child = int(done.stdout)  # that it could be read to its end shows that nobody else has it open
    wait_until(lambda: state_of(child) in "ZX")


def test_the_watcher_imports_little() -> None:
    """There is one beside each rank."""
    code = f"import sys; sys.path.insert(0, {str(Path(hpcnn.__file__).parents[1])!r}); import {watcher.__name__}"
    show = "; print(*[name for name in ('numpy', 'dataclasses', 'typing', 'mpi4py') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code + show], capture_output=True, text=True, timeout=WAIT_S
    )
    assert (done.stdout, done.stderr) == ("\n", "")
