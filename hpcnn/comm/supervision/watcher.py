"""The watcher of one rank: a process beside it, which ends the job where the rank itself can't.

It needs neither MPI nor Python's lock in the rank, so it also works while the rank is within MPI_Init or MPI_Finalize,
is stopped, or regroups with others. It imports little. It looks at the ranks of its own host: at the page of memory of
each, and at what the system says of their processes.

It acts on proof, or on a limit that the user has set, and never on a process that is only slow.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress

from hpcnn.comm.supervision.near_rank import NearRank
from hpcnn.comm.supervision.rank_page import (
    ALL_NEAR,
    CONNECTED,
    CONNECTING,
    ENDED,
    FAILING,
    LEAVING,
    PAGE_BYTES,
    RECOVERING,
    SPARE,
    STACK_SIGNAL,
    WATCHED,
    RankPage,
    RankSnapshot,
)
from hpcnn.comm.supervision.siblings import Siblings, launcher_of
from hpcnn.system.proc_files import children_of, start_time, state_of

PERIOD_S = 0.25
CALM_S = 1.0
"""Seconds between two looks; and while all is well, since each look briefly takes a core from some rank."""
UNREPORTED_S = 6.0
"""How long a rank may wait for one that is gone: MPI should have reported it by then."""
RECOVER_S = 8.0
"""How long regrouping may take after a loss; it takes milliseconds."""
DEAF_S = 20.0
"""As `UNREPORTED_S`, for a rank in which no Python runs, so that it can't show whether it waits."""
GRACE_S = 2.0
"""Time for the launcher, which mostly ends the job by itself when a rank dies."""
PATIENCE = 10
"""The factor of the limit for a collective call that a busy rank may yet make."""
STOPPED_MARGIN_S = {0: 0.0, WATCHED: 4.0}
"""The watchdog of a neighbour acts first."""


class Watcher:
    """Watches one rank, and those near it.

    Args:
        page: what the rank shows.
        process: the rank's.
        rank: its number among all.
        siblings: the ranks of this host, before they are connected.
        launcher: the process that started them.
        outlive: whether the launcher lets ranks outlive each other.
    """

    def __init__(
        self, page: RankPage, process: int, rank: int, siblings: Siblings, launcher: int, *, outlive: bool
    ) -> None:
        self._page, self._process, self._rank, self._siblings = page, process, rank, siblings
        self._launcher, self._launcher_began, self._outlive = launcher, start_time(launcher), outlive
        self._shown = RankSnapshot(page)
        self._table: list[tuple[int, int, int, int]] = []
        self._near: list[NearRank] = []
        self._waited_s = self._deaf_s = self._dead_s = self._orphan_s = self._stopped_s = 0.0
        self._regroup_s = self._left_s = 0.0
        self._stack_shown = False
        self._lock: socket.socket | None = None

    def look(self, seconds: float) -> None:
        """Look once, `seconds` after the last time, and end the job if it can't go on."""
        if state_of(self._process) in "Tt":
            self._look_at_stopped(seconds)
            return
        self._stopped_s = 0.0
        self._look_at_page(seconds)
        self._show_stack()
        stage = self._shown.stage
        self._orphan_s = 0.0 if start_time(self._launcher) == self._launcher_began else self._orphan_s + seconds
        if self._orphan_s > UNREPORTED_S and stage not in (LEAVING, ENDED):
            self._end(f"the launcher, whose process was {self._launcher}, is gone", abort_s=0.0)
        if stage == CONNECTING:
            self._look_at_start(seconds)
            return
        table = self._page.read_near()
        if table != self._table:
            self._table, self._near = table, [NearRank(*entry) for entry in table]
        self._look_around(seconds)

    @property
    def is_calm(self) -> bool:
        """Whether the rank is at work, and neither waits nor keeps silent."""
        return self._shown.stage == CONNECTED and self._waited_s < 1.0 and self._deaf_s < 1.0

    def _look_at_page(self, seconds: float) -> None:
        """Add up for how long the rank has waited, and has shown no beat."""
        before, self._shown = self._shown, RankSnapshot(self._page)
        now = self._shown
        self._deaf_s = (
            self._deaf_s + seconds if now.beats == before.beats and now.stage in (CONNECTED, RECOVERING) else 0.0
        )
        if now.wait == 0 or now.wait != before.wait or now.stage != before.stage:
            self._waited_s = 0.0
        elif now.beats != before.beats or self._deaf_s < 1.0:
            self._waited_s += seconds

    def _show_stack(self) -> None:
        """Let a rank in which no Python runs print where it is, once: its neighbour can only say that it is silent.

        Only within a system call its stack is sure to stand still.
        """
        late = 0 < self._shown.stack_s <= self._deaf_s
        if late and not self._stack_shown and state_of(self._process) in "SD":
            _say(f"no Python of rank {self._rank} has run for {self._deaf_s:.0f} s; its main thread:", "hpcnn: ")
            os.kill(self._process, STACK_SIGNAL)
            self._stack_shown = True
        elif self._deaf_s == 0:
            self._stack_shown = False

    def _look_at_stopped(self, seconds: float) -> None:
        """Handle a rank that is stopped. The others report it, and if all are stopped, the job is suspended.

        But if all others are gone, as at the end of a job, only its own watcher can.
        """
        for one in self._near:
            one.look(seconds)
        alone = bool(self._near) and all(one.is_gone for one in self._near)
        self._stopped_s = self._stopped_s + seconds if alone else 0.0
        abort_s = RankSnapshot(self._page).abort_s
        if abort_s and self._stopped_s >= abort_s:
            self._end(f"rank {self._rank}, whose process {self._process} is stopped, does not end", abort_s)

    def _look_at_start(self, seconds: float) -> None:
        dead, abort_s = self._siblings.look(seconds), self._shown.abort_s
        self._dead_s = self._dead_s + seconds if dead else 0.0
        if self._dead_s >= (GRACE_S if self._outlive else 4 * GRACE_S):
            self._end(dead, abort_s=0.0)
        elif abort_s and (stopped := self._siblings.stopped(abort_s)):
            self._end(stopped, abort_s=abort_s)

    def _look_around(self, seconds: float) -> None:
        if self.is_calm:  # nearly always: save system calls
            for one in self._near:
                one.forget()
            return
        stage, flags, abort_s = self._shown.stage, self._shown.flags, self._shown.abort_s
        looks = [(one, one.look(seconds)) for one in self._near]
        lost = [why for _, why in looks if why]
        gone = [why for one, why in looks if one.is_gone and one.stage != ENDED]
        died = any(one.has_died for one in self._near)
        self._left_s = self._left_s + seconds if stage == LEAVING and died else 0.0
        working = any(one.is_at_work for one in self._near)  # a step, a checkpoint: it learns of the loss after that
        self._regroup_s = self._regroup_s + seconds if stage == RECOVERING and not working else 0.0
        doing = self._shown.activity
        if stage == RECOVERING and 0 < (limit_s := self._regroup_limit_s()) <= self._regroup_s:
            self._end(f"rank {self._rank} could not regroup with the ranks that are left within {limit_s:g} s", 0.0)
        elif stage == FAILING and gone:
            self._end(f"{gone[0]} is missed by rank {self._rank}: {doing}", abort_s=0.0)
        elif self._left_s >= UNREPORTED_S:
            os.kill(self._process, signal.SIGKILL)  # all is done, but that MPI_Finalize waits for the dead
        elif stage == CONNECTED and lost and self._waited_s >= UNREPORTED_S:
            self._end(f"{lost[0]} will not come: rank {self._rank} waits for it in vain: {doing}", abort_s=0.0)
        elif stage == CONNECTED and gone and self._outlive and self._deaf_s >= DEAF_S:
            self._end(f"{gone[0]} will not come, and rank {self._rank} may wait for it: {doing}", abort_s=0.0)
        elif abort_s and (late := self._late()) is not None:
            who = f"rank {late.rank}, whose process {late.process} is stopped, has not come for {abort_s:g} s"
            self._end_rank(late, who, abort_s) if flags & SPARE else self._end(who, abort_s)
        elif abort_s and not flags & WATCHED and stage == CONNECTED:
            self._look_at_call()

    def _look_at_call(self) -> None:
        """End the job if this rank has waited too long in a collective call.

        Ranks that are busy, or can't be seen, may still make it: they get longer.
        """
        abort_s = self._shown.abort_s
        busy = any(one.is_at_work and not one.waits and one.idle_s < abort_s for one in self._near)
        limit_s = abort_s * PATIENCE if busy or not self._shown.flags & ALL_NEAR else abort_s
        if self._waited_s >= limit_s:
            doing = ((one.rank, one.shown.activity if one.shown else "") for one in self._near[:8])
            others = "; ".join(f"rank {rank} is in {activity or 'none'}" for rank, activity in doing)
            self._end(
                f"rank {self._rank} has waited for {limit_s:g} s for others in a call that all ranks are to make: "
                f"{self._shown.activity}{f'; {others}' if others else ''}",
                abort_s,
            )

    def _regroup_limit_s(self) -> float:
        """Return how long regrouping may take: ranks that can't be seen from here may be at work."""
        abort_s = self._shown.abort_s
        return RECOVER_S if self._shown.flags & ALL_NEAR else abort_s and max(RECOVER_S, abort_s)

    def _late(self) -> NearRank | None:
        """Return a rank that has been stopped for too long, if this one waits."""
        limit_s = self._shown.abort_s + STOPPED_MARGIN_S[self._shown.flags & WATCHED]
        waits = self._waited_s >= min(limit_s, 3.0) or self._shown.stage in (LEAVING, ENDED)
        return next((one for one in self._near if waits and one.stopped_s >= limit_s), None)

    # ------------------------------------------------------------------------------------------------------ ending

    def _end_rank(self, one: NearRank, who: str, abort_s: float) -> None:
        """End one rank; the others can continue without it."""
        if self._is_first_to_say(f"rank-{one.process}"):
            _say(f"{who}\nRank {one.rank} ends, since run.stall_abort_s = {abort_s:g}.")
            with suppress(ProcessLookupError):
                os.kill(one.process, signal.SIGKILL)

    def _end(self, why: str, abort_s: float) -> None:
        """End the job, with one message for this host."""
        first = self._is_first_to_say("job")
        if first:
            since = f", since run.stall_abort_s = {abort_s:g}" if abort_s else ""
            _say(f"on {socket.gethostname()}, {why}\nThe job ends{since}.")
            time.sleep(0.2)  # a launcher that ends a job drops what it has not read yet
        self._page.write("end", 1)  # the rank itself can give an exit code to all
        if first and self._outlive and start_time(self._launcher) == self._launcher_began:
            with suppress(OSError):
                os.kill(self._launcher, signal.SIGTERM)
        self._wait_for_end(3.0 if self._near else 1.0)
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        if self._lock is not None:
            for one in (*(near.process for near in self._near), *self._siblings.stopped_s):
                with suppress(OSError):
                    if self._outlive or state_of(one) in "Tt":
                        os.kill(one, signal.SIGKILL)
        self._wait_for_end(1.0)
        sys.exit(0)

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and os.getppid() == self._process:
            time.sleep(0.05)

    def _is_first_to_say(self, what: str) -> bool:
        """Return whether this watcher is the first of its host to say so, by binding a name that only one can have."""
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0hpcnn-{os.getuid()}-{self._launcher}-{self._launcher_began}-{what}")
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True


def _say(text: str, start: str = "hpcnn: error: ") -> None:
    """Write a message, but wait for its reader for a second at most."""

    def write() -> None:
        with suppress(OSError):
            os.write(2, f"{start}{text}\n".encode())

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(1.0)


def end_launcher(launcher: int, began: int) -> None:
    """End a launcher that does not end by itself after all ranks that it started here are gone."""
    deadline = time.monotonic() + UNREPORTED_S
    while time.monotonic() < deadline:
        if start_time(launcher) != began:
            return
        time.sleep(0.1)
    if not any(map(start_time, children_of(launcher))):
        with suppress(OSError):
            os.kill(launcher, signal.SIGTERM)


def main() -> None:
    """Watch the rank until it is gone."""
    *numbers, variable = sys.argv[1:]
    file, own, rank, expected, outlive = map(int, numbers)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)  # launchers send them to all processes of a rank
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:  # noqa: PTH123
        name.write("hpcnn-watcher")
    page = RankPage(mmap.mmap(file, PAGE_BYTES))
    launcher = launcher_of(own, variable)
    began = start_time(launcher)
    watcher = Watcher(page, own, rank, Siblings(launcher, variable, expected), launcher, outlive=bool(outlive))
    poll = select.poll()
    with suppress(AttributeError, OSError):  # to leave at once: a launcher waits for all that hold a rank's output
        poll.register(os.pidfd_open(own), select.POLLIN)
    last = time.monotonic()
    while os.getppid() == own:
        period_s = CALM_S if watcher.is_calm else PERIOD_S
        # All watchers look at the same moment: ranks that wait for each other lose least.
        if poll.poll(1000 * (period_s - time.time() % period_s)):
            break
        now = time.monotonic()
        watcher.look(min(now - last, 2 * period_s))
        last = now
    if outlive and page.read("stage") == CONNECTING:  # as where MPI_Init itself has failed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        end_launcher(launcher, began)
