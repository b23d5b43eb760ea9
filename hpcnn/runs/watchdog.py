"""The watchdog: names a rank that makes no progress, and ends a job that is stuck.

It is a thread of each rank. It observes its own rank, and receives the states of some others as heartbeats.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from hpcnn.comm.abort import abort_job
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.supervision.heartbeats import Heartbeats, Status
from hpcnn.comm.supervision.watched_rank import watched_rank
from hpcnn.core.activity import SAVE, SET_UP, WAIT
from hpcnn.core.stop_request import StopRequest
from hpcnn.errors import EXIT_STALLED, CommunicatorError, HpcnnError
from hpcnn.runs.thread_probe import ActivityProbe, is_within, stacks
from hpcnn.system.output import ERROR, write_line

PATIENCE = 10
"""A busy rank may take this many times longer for operations that it does for the first time."""
_PERIODS_S = 0.05, 1.0
"""Least and longest time between two looks."""
_POLL_S = 0.005
_FAREWELL_S = 0.5
"""How long a failing rank waits for the others to fail as well."""
_EVERYBODY = "everybody"
_MOST_REPORTS = 16
"""If all ranks wait for each other, this many print where."""


def _print(text: str) -> None:
    write_line(text.rstrip(), ERROR)


class Watchdog:
    """Watches the rank of the thread that makes it, and its left neighbour, in a ``with`` statement. On all ranks.

    Only time in which the watchdog itself runs counts: a suspended job is not stuck.

    Args:
        comm: the ranks.
        warn_s: seconds without progress after which a rank is named; 0 for never.
        abort_s: seconds without progress after which the job ends; 0 for never.
        spare: whether the other ranks can continue without a stuck one, so that it alone is ended.
        stop: the stop request, which heartbeats carry to the other ranks.
        end: ends the job with an exit code, from any thread.
        tell: prints a message.
    """

    def __init__(
        self,
        comm: Communicator,
        *,
        warn_s: float,
        abort_s: float,
        spare: bool = False,
        stop: StopRequest | None = None,
        end: Callable[[int], object] = abort_job,
        tell: Callable[[str], object] = _print,
    ) -> None:
        self._comm, self._activity, self._stop = comm, comm.activity, stop
        self._warn_s, self._abort_s = warn_s or math.inf, abort_s or math.inf
        self._limit_s = min(self._warn_s, self._abort_s)
        self._end, self._tell, self._spare = end, tell, spare
        self._period_s = min(max(_PERIODS_S[0], self._limit_s / 4), _PERIODS_S[1])
        self._beats: Heartbeats | None = comm.fault_tolerance.heartbeats() if self._limit_s < math.inf else None
        self._silent_s = dict.fromkeys(self._beats.sources, 0.0) if self._beats is not None else {}
        self._last: dict[int, Status] = {}
        self._idle_s = 0.0
        """Time since this rank made progress, or waited for others."""
        self._quiet_s = 0.0
        """Time since the last news of progress of any rank."""
        self._blamed_s = math.inf
        """Time since the last news of a stuck rank that was named."""
        self._progress = self._stuck = 0
        """The greatest counts of such news so far."""
        self._busy_s = 0.0
        """Time for which this rank was excused as busy."""
        self._changes, self._probe, self._watched = -1, ActivityProbe(), threading.get_ident()
        self._named: set[str] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        if self._limit_s < math.inf:
            self._thread.start()
        if self._warn_s < math.inf:
            watched_rank.show_stack_after(self._warn_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        failing_s = _FAREWELL_S if kind and issubclass(kind, HpcnnError) else 0.0  # such are mostly raised by all ranks
        self.close(math.inf if kind is None else failing_s)

    def close(self, patience_s: float = 0.0) -> None:
        """Stop watching. Wait up to `patience_s` for the neighbours to stop, so that no message is left unreceived."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()
        watched_rank.show_stack_after(0.0)
        if self._beats is None:
            return
        beats, last = self._beats, time.monotonic()
        with suppress(CommunicatorError):
            beats.leave()
            while patience_s > 0 and len(beats.left) < len(beats.sources):
                time.sleep(_POLL_S)
                now = time.monotonic()
                self._listen(beats, None, min(now - last, self._period_s))
                self._judge_neighbour(beats)
                patience_s -= now - last
                last = now
        beats.close()
        self._beats = None

    def _run(self) -> None:
        last = time.monotonic()
        self.look(0.0)
        while not self._closed.wait(self._period_s):
            now = time.monotonic()
            self.look(min(now - last, 2 * self._period_s))
            last = now

    # ------------------------------------------------------------------------------------------------------- looking

    def look(self, seconds: float) -> None:
        """Check this rank and its neighbour, `seconds` after the last time."""
        self._idle_s += seconds
        self._quiet_s += seconds
        self._blamed_s += seconds
        waits = self._waits()
        if waits:
            self._idle_s = 0.0
        if self._makes_progress(seconds, waits):
            self._idle_s = 0.0
            self._learn(self._progress + 1, self._stuck)
        if self._beats is not None:
            self._talk(self._beats, seconds)
        self._judge(self._comm.rank, self._idle_s, self._describe_stuck)
        if self._beats is not None:
            self._judge_neighbour(self._beats)
        self._judge_all(waits)

    def _waits(self) -> bool:
        """Return whether this rank waits for others: in its phase, or in a call of `hpcnn.comm`."""
        if self._comm.size == 1:
            return False
        return self._activity.phase == WAIT or is_within(self._watched, "hpcnn.comm")

    def _makes_progress(self, seconds: float, waits: bool) -> bool:
        changes, busy = self._activity.changes, self._probe.was_active(seconds)
        if changes != self._changes:
            self._changes, self._busy_s = changes, 0.0
            return True
        phase = self._activity.phase
        takes_long = phase in (SET_UP, SAVE) or phase not in self._activity.seconds  # reads, writes or compiles
        if waits or not busy or not takes_long or self._busy_s >= PATIENCE * self._limit_s:
            return False
        self._busy_s += seconds - self._probe.queued_s
        return True

    def _talk(self, beats: Heartbeats, seconds: float) -> None:
        reason = self._stop.reason if self._stop is not None else None
        status = Status(self._progress, self._stuck, str(self._activity), reason or "")
        try:
            self._listen(beats, status, seconds)
        except CommunicatorError:  # a rank is lost; survivors make another attempt, with new watchdogs
            self._beats = None

    def _listen(self, beats: Heartbeats, status: Status | None, seconds: float) -> None:
        for source in self._silent_s:
            self._silent_s[source] += seconds
        for source, news in beats.beat(status).items():
            self._silent_s[source], self._last[source] = 0.0, news
            self._learn(news.progress, news.stuck)
            if news.stop_reason and self._stop is not None and self._stop.reason is None:
                self._stop.ask(news.stop_reason)

    def _learn(self, progress: int, stuck: int) -> None:
        if progress > self._progress:
            self._progress, self._quiet_s = progress, 0.0
        if stuck > self._stuck:
            self._stuck, self._blamed_s = stuck, 0.0

    # ------------------------------------------------------------------------------------------------------- judging

    def _judge(self, rank: int, stuck_s: float, what: Callable[[str], str]) -> None:
        """Name a stuck rank, once; say when it makes progress again; end it, or the job, after `abort_s`."""
        who = self._name(rank)
        if stuck_s >= self._limit_s:
            self._learn(self._progress, self._stuck + 1)
        if stuck_s >= self._abort_s:
            self._give_up(rank, what(who))
        elif stuck_s >= self._warn_s:
            self._warn(who, what)
        elif who in self._named:
            self._named.remove(who)
            self._tell(f"hpcnn: {who} is making progress again")

    def _judge_neighbour(self, beats: Heartbeats) -> None:
        neighbour = beats.sources[0]
        if neighbour not in beats.left:
            self._judge(neighbour, self._silent_s[neighbour], self._describe_silent)

    def _judge_all(self, waits: bool) -> None:
        """Warn that all ranks wait for one another, and end the job if no other rank has ended it."""
        first, margin_s = self._comm.rank == 0, self._margin_s
        late_s, blameless = self._quiet_s - margin_s, self._blamed_s > margin_s
        if waits and late_s >= self._abort_s + (0 if first and blameless else margin_s):
            self._give_up(self._comm.rank, self._describe_deadlock(_EVERYBODY))
        elif waits and late_s >= self._warn_s and blameless and self._comm.rank < _MOST_REPORTS:
            self._warn(_EVERYBODY, self._describe_deadlock)
        elif late_s < self._warn_s:
            self._named.discard(_EVERYBODY)

    @property
    def _margin_s(self) -> float:
        """Time in which news reaches all ranks. Without heartbeats: the longest that others may be excused."""
        if self._beats is None:
            return PATIENCE * self._limit_s
        return 2 * self._period_s * (1 + len(self._silent_s))

    def _warn(self, who: str, what: Callable[[str], str]) -> None:
        if who not in self._named:
            self._tell(f"hpcnn: warning: {what(who)}")
            self._named.add(who)
            self._probe.was_active(0.0)  # the writing does not count as activity

    def _give_up(self, rank: int, text: str) -> None:
        """End the stuck rank alone if the others can continue without it; else end the job."""
        process = self._beats.processes[rank] if self._beats is not None and self._spare else None
        alone = process is not None and process.is_near()
        ends = f"Rank {rank}" if alone else "The job"
        self._tell(f"hpcnn: error: {text}\n{ends} ends, since run.stall_abort_s = {self._abort_s:g}.")
        self._closed.set()
        if process is not None and alone:
            os.kill(process.number, signal.SIGKILL)
        else:
            self._end(EXIT_STALLED)

    # ---------------------------------------------------------------------------------------------------- describing

    def _name(self, rank: int) -> str:
        host = self._comm.host if self._beats is None else self._beats.processes[rank].host
        return f"rank {rank} on {host}"

    def _describe_stuck(self, who: str) -> str:
        return f"{who} has made no progress for {self._idle_s:.0f} s: {self._activity}{self._stacks(who)}"

    def _describe_silent(self, who: str) -> str:
        assert self._beats is not None
        neighbour, processes = self._beats.sources[0], self._beats.processes
        last = self._last[neighbour].activity if neighbour in self._last else "none"
        state = processes[neighbour].state()
        state = f" ({state})" if state else ""
        return f"{who} has given no sign of life for {self._silent_s[neighbour]:.0f} s{state}; its last: {last}"

    def _describe_deadlock(self, who: str) -> str:
        own = f"{self._name(self._comm.rank)} waits in {self._activity}{self._stacks(who)}"
        if self._comm.rank != 0:
            return own
        return (
            f"nobody has made progress for {self._quiet_s:.0f} s, and all ranks wait for one another: a message was "
            f"lost, a node is gone, or ranks went different ways\n{own}"
        )

    def _stacks(self, who: str) -> str:
        return "" if who in self._named else f"\n{stacks()}"
