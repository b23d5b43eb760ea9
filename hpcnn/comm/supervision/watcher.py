"""The watcher of one rank: a process beside it, which ends the job where the rank itself can't.

It needs neither MPI nor Python's lock in the rank, so it also works while the rank is within MPI_Init or MPI_Finalize,
is stopped, or regroups with others. It imports little, and knows of the ranks of its own host: the
state that each of them shows in a page of memory, and what the system says of their processes.

What it judges by is proof, or a limit that the user has set; a living process that is only slow is let be.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

from hpcnn.system.processes import Siblings, children_of, launcher_of, start_time, stat_of

CONNECTING, CONNECTED, RECOVERING, LEAVING, ENDED, FAILING = range(6)
"""How far a rank is: within MPI_Init, at work, finding the others after a loss, within MPI_Finalize, done; or about to
fail, since MPI told it that another one has died."""
SPARE, WATCHED, ALL_NEAR = 1, 2, 4
"""Flags of a rank: the others can go on without it; its own watchdog looks after the time that it waits; all other
ranks are on its host."""
EXIT_STALLED = 70

HEADER = struct.Struct("<qqqqqqd160s")
STAGE, BEATS, WAIT, VERDICT, FLAGS, NEAR, ABORT_S, PLACE = (*(8 * i for i in range(7)), 56)
"""Where in its page a rank keeps: how far it is; how often it has looked at itself; a number of what it waits in, 0 if
it does not wait; the exit code with which it is asked to end the job; flags; the number of entries of the table of near
ranks; after how many seconds a stall ends the job; and what it is doing."""
PLACE_BYTES = 160
ENTRY = struct.Struct("<qqqq")
"""Of the table: rank, process, when that began, and its page's file."""
PAGE_BYTES = 1 << 16
MOST_NEAR = (PAGE_BYTES - 256) // ENTRY.size
TABLE = 256

PERIOD_S = 0.25
CALM_S = 1.0
"""Seconds between two looks; and where all is well, since each look takes its core from some rank for a moment."""
UNREPORTED_S = 6.0
"""So long a rank may wait for one that is gone: MPI should have told it by then."""
RECOVER_S = 8.0
"""What finding each other may take after a loss; it takes milliseconds."""
DEAF_S = 20.0
"""The same for a rank in which no Python runs, so that it can't say whether it waits."""
GRACE_S = 2.0
"""Most launchers end a job by themselves when a rank dies."""
PATIENCE = 10
"""A call that a busy rank has not come to yet is waited for so many times as long."""
BUSY_TICKS = 1
"""Who uses more hundredths of a second within a period is busy: showing itself takes less."""
STOPPED_MARGIN_S = {0: 0.0, WATCHED: 4.0}
"""The watchdog of a neighbour goes first."""


def place_in(page: mmap.mmap) -> str:
    """Return what a rank says in its page that it is doing."""
    return page[PLACE : PLACE + PLACE_BYTES].rstrip(b"\0").decode(errors="replace")


class Near:
    """Another rank of this host, once all are connected."""

    def __init__(self, rank: int, process: int, began: int, file: int) -> None:
        self.rank, self.process, self._began = rank, process, began
        self.stopped_s = self.idle_s = 0.0
        """For how long it has been stopped, and has hardly used a processor, as far as it was looked at."""
        self.is_gone = self.has_died = False
        """As `look` has found it: one that has ended its work and left is gone, but has not died."""
        self._ticks = 0
        self._page: mmap.mmap | None = None
        with suppress(OSError, ValueError):
            opened = os.open(f"/proc/{process}/fd/{file}", os.O_RDONLY)
            self._page = mmap.mmap(opened, PAGE_BYTES, prot=mmap.PROT_READ)
            os.close(opened)

    def look(self, seconds: float) -> str:
        """Return why nobody should wait for it; empty if it may come."""
        fields, stage = stat_of(self.process), self.stage
        state = fields[0] if fields else "Z"
        ticks = int(fields[11]) + int(fields[12]) if fields else 0
        self.idle_s = 0.0 if ticks > self._ticks + BUSY_TICKS else self.idle_s + seconds
        self._ticks = ticks
        self.stopped_s = self.stopped_s + seconds if state in "Tt" else 0.0
        self.is_gone = state in "ZX" or int(fields[19]) != self._began
        self.has_died = self.is_gone and stage is not None and stage != ENDED
        if self.is_gone and stage != ENDED:
            return f"rank {self.rank}, whose process {self.process} is gone,"
        if stage in (LEAVING, ENDED):
            return f"rank {self.rank}, which has come to the end of its program,"
        return ""

    def forget(self) -> None:
        """Begin anew to count for how long it is stopped or idle."""
        self.stopped_s = self.idle_s = 0.0

    @property
    def stage(self) -> int | None:
        """How far it says it is; None if its page can't be seen."""
        return None if self._page is None else int(struct.unpack_from("<q", self._page, STAGE)[0])

    @property
    def is_at_work(self) -> bool:
        """Whether it is on its way to what others wait for, as far as it says."""
        return not self.is_gone and self.stage == CONNECTED

    @property
    def waits(self) -> bool:
        """Whether it says that it waits for others itself."""
        return self._page is not None and bool(struct.unpack_from("<q", self._page, WAIT)[0])

    @property
    def place(self) -> str:
        """What it says it is doing."""
        return "" if self._page is None else place_in(self._page)


class Watcher:
    """Looks at one rank, and at those near it.

    Args:
        page: what the rank shows.
        process: the rank's.
        rank: its number among all.
        siblings: the ranks of this host, before they are connected.
        launcher: the process that started them.
        outlive: whether the launcher lets ranks outlive each other.
    """

    def __init__(
        self, page: mmap.mmap, process: int, rank: int, siblings: Siblings, launcher: int, *, outlive: bool
    ) -> None:
        self._page, self._process, self._rank, self._siblings = page, process, rank, siblings
        self._launcher, self._launcher_began, self._outlive = launcher, start_time(launcher), outlive
        self._near: list[Near] = []
        self._table = b""
        self._before: tuple[int, ...] = ()
        self._waited_s = self._deaf_s = self._dead_s = self._orphan_s = self._stopped_s = 0.0
        self._regroup_s = self._left_s = 0.0
        self._lock: socket.socket | None = None

    def look(self, seconds: float) -> None:
        """Look once, `seconds` after the last time, and end the job if it can't go on."""
        stage, beats, wait, _, flags, near, abort_s, _ = HEADER.unpack_from(self._page)
        if (stat_of(self._process) or "Z")[0] in "Tt":
            self._look_at_stopped(seconds, abort_s)
            return
        self._stopped_s = 0.0
        self._account(stage, beats, wait, seconds)
        self._orphan_s = 0.0 if start_time(self._launcher) == self._launcher_began else self._orphan_s + seconds
        if self._orphan_s > UNREPORTED_S and stage not in (LEAVING, ENDED):
            self._end(f"the launcher, whose process was {self._launcher}, is gone", abort_s=0.0)
        if stage == CONNECTING:
            self._look_at_start(seconds, abort_s)
            return
        table = bytes(self._page[TABLE : TABLE + near * ENTRY.size])
        if table != self._table:
            self._table = table
            self._near = [Near(*entry) for entry in ENTRY.iter_unpack(table)]
        self._look_around(stage, flags, abort_s, seconds)

    @property
    def is_calm(self) -> bool:
        """Whether the rank is at work, and neither waits nor keeps silent."""
        return self._before[:1] == (CONNECTED,) and self._waited_s < 1.0 and self._deaf_s < 1.0

    def _account(self, stage: int, beats: int, wait: int, seconds: float) -> None:
        """Add up for how long the rank has waited, and has shown no beat."""
        now = (stage, beats, wait)
        before, self._before = self._before or now, now
        self._deaf_s = self._deaf_s + seconds if beats == before[1] and stage in (CONNECTED, RECOVERING) else 0.0
        if wait == 0 or wait != before[2] or stage != before[0]:
            self._waited_s = 0.0
        elif beats != before[1] or self._deaf_s < 1.0:
            self._waited_s += seconds

    def _look_at_stopped(self, seconds: float, abort_s: float) -> None:
        """Look after a rank that is stopped: the others see to that, and if all are stopped, the job is suspended.

        But if all others are gone, as at the end of a job, nobody else can.
        """
        for one in self._near:
            one.look(seconds)
        alone = bool(self._near) and all(one.is_gone for one in self._near)
        self._stopped_s = self._stopped_s + seconds if alone else 0.0
        if abort_s and self._stopped_s >= abort_s:
            self._end(f"rank {self._rank}, whose process {self._process} is stopped, does not end", abort_s)

    def _look_at_start(self, seconds: float, abort_s: float) -> None:
        dead = self._siblings.look(seconds)
        self._dead_s = self._dead_s + seconds if dead else 0.0
        if self._dead_s >= (GRACE_S if self._outlive else 4 * GRACE_S):
            self._end(dead, abort_s=0.0)
        elif abort_s and (stopped := self._siblings.stopped(abort_s)):
            self._end(stopped, abort_s=abort_s)

    def _look_around(self, stage: int, flags: int, abort_s: float, seconds: float) -> None:
        if self.is_calm:  # as nearly always: spare the system
            for one in self._near:
                one.forget()
            return
        looks = [(one, one.look(seconds)) for one in self._near]
        lost = [why for _, why in looks if why]
        gone = [why for one, why in looks if one.is_gone and one.stage != ENDED]
        died = any(one.has_died for one in self._near)
        self._left_s = self._left_s + seconds if stage == LEAVING and died else 0.0
        working = any(one.is_at_work for one in self._near)  # a step, a checkpoint: it learns of the loss after that
        self._regroup_s = self._regroup_s + seconds if stage == RECOVERING and not working else 0.0
        if stage == RECOVERING and 0 < (limit_s := self._regroup_limit_s(flags, abort_s)) <= self._regroup_s:
            self._end(f"rank {self._rank} could not regroup with the ranks that are left within {limit_s:g} s", 0.0)
        elif stage == FAILING and gone:
            self._end(f"{gone[0]} is missed by rank {self._rank}: {self._place()}", abort_s=0.0)
        elif self._left_s >= UNREPORTED_S:
            os.kill(self._process, signal.SIGKILL)  # all is done, but that MPI_Finalize waits for the dead
        elif stage == CONNECTED and lost and self._waited_s >= UNREPORTED_S:
            self._end(f"{lost[0]} will not come: rank {self._rank} waits for it in vain: {self._place()}", abort_s=0.0)
        elif stage == CONNECTED and gone and self._outlive and self._deaf_s >= DEAF_S:
            self._end(f"{gone[0]} will not come, and rank {self._rank} may wait for it: {self._place()}", abort_s=0.0)
        elif abort_s and (late := self._stopped(flags, abort_s)) is not None:
            who = f"rank {late.rank}, whose process {late.process} is stopped, has not come for {abort_s:g} s"
            self._end_rank(late, who, abort_s) if flags & SPARE else self._end(who, abort_s)
        elif abort_s and not flags & WATCHED and stage == CONNECTED:
            self._look_at_call(flags, abort_s)

    def _look_at_call(self, flags: int, abort_s: float) -> None:
        """End the job if this rank has waited for too long in a call that all ranks are to make.

        Ranks that are busy, or can't be seen, may come to it yet: they are given longer.
        """
        busy = any(one.is_at_work and not one.waits and one.idle_s < abort_s for one in self._near)
        limit_s = abort_s * PATIENCE if busy or not flags & ALL_NEAR else abort_s
        if self._waited_s >= limit_s:
            others = "; ".join(f"rank {one.rank} is in {one.place or 'none'}" for one in self._near[:8])
            self._end(
                f"rank {self._rank} has waited for {limit_s:g} s for others in a call that all ranks are to make: "
                f"{self._place()}{f'; {others}' if others else ''}",
                abort_s,
            )

    def _regroup_limit_s(self, flags: int, abort_s: float) -> float:
        """Return how long finding the others may take: ranks that can't be seen from here may be at work."""
        return RECOVER_S if flags & ALL_NEAR else abort_s and max(RECOVER_S, abort_s)

    def _stopped(self, flags: int, abort_s: float) -> Near | None:
        limit_s = abort_s + STOPPED_MARGIN_S[flags & WATCHED]
        waits = self._waited_s >= min(limit_s, 3.0) or self._before[0] in (LEAVING, ENDED)
        return next((one for one in self._near if waits and one.stopped_s >= limit_s), None)

    def _place(self) -> str:
        return place_in(self._page)

    # ------------------------------------------------------------------------------------------------------ ending

    def _end_rank(self, one: Near, who: str, abort_s: float) -> None:
        """End one rank that the others can do without."""
        if self._speaks(f"rank-{one.process}"):
            _tell(f"{who}\nRank {one.rank} ends, since run.stall_abort_s = {abort_s:g}.")
            with suppress(ProcessLookupError):
                os.kill(one.process, signal.SIGKILL)

    def _end(self, why: str, abort_s: float) -> None:
        """End the job, with one message for this host."""
        first = self._speaks("job")
        if first:
            since = f", since run.stall_abort_s = {abort_s:g}" if abort_s else ""
            _tell(f"on {socket.gethostname()}, {why}\nThe job ends{since}.")
            time.sleep(0.2)  # a launcher that ends a job drops what it has not read yet
        struct.pack_into("<q", self._page, VERDICT, EXIT_STALLED)  # the rank itself can give an exit code to all
        if first and self._outlive and start_time(self._launcher) == self._launcher_began:
            with suppress(OSError):
                os.kill(self._launcher, signal.SIGTERM)
        self._wait_for_end(3.0 if self._near else 1.0)
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        if self._lock is not None:
            for one in (*(near.process for near in self._near), *self._siblings.stopped_s):
                with suppress(OSError):
                    if self._outlive or (stat_of(one) or "Z")[0] in "Tt":
                        os.kill(one, signal.SIGKILL)
        self._wait_for_end(1.0)
        sys.exit(0)

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and os.getppid() == self._process:
            time.sleep(0.05)

    def _speaks(self, what: str) -> bool:
        """Return whether this watcher is the first of its host to say so: a name that only one of them can take."""
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0hpcnn-{os.getuid()}-{self._launcher}-{self._launcher_began}-{what}")
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True


def _tell(text: str) -> None:
    """Say something, but wait a second at most for whoever reads it."""

    def write() -> None:
        with suppress(OSError):
            os.write(2, f"hpcnn: error: {text}\n".encode())

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    thread.join(1.0)


def see_to_end(launcher: int, began: int) -> None:
    """End a launcher that does not end by itself, though all ranks that it started here are gone."""
    deadline = time.monotonic() + UNREPORTED_S
    while time.monotonic() < deadline:
        if start_time(launcher) != began:
            return
        time.sleep(0.1)
    if not any(map(start_time, children_of(launcher))):
        with suppress(OSError):
            os.kill(launcher, signal.SIGTERM)


def main() -> None:
    """Watch until the rank is gone."""
    *numbers, variable = sys.argv[1:]
    file, own, rank, expected, outlive = map(int, numbers)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)  # launchers send them to all processes of a rank
    with suppress(OSError), open("/proc/self/comm", "w", encoding="ascii") as name:  # noqa: PTH123
        name.write("hpcnn-watcher")
    page = mmap.mmap(file, PAGE_BYTES)
    launcher = launcher_of(own, variable)
    began = start_time(launcher)
    watcher = Watcher(page, own, rank, Siblings(launcher, variable, expected), launcher, outlive=bool(outlive))
    poll = select.poll()
    with suppress(AttributeError, OSError):  # to leave at once: a launcher waits for all that hold a rank's output
        poll.register(os.pidfd_open(own), select.POLLIN)
    last = time.monotonic()
    while os.getppid() == own:
        period_s = CALM_S if watcher.is_calm else PERIOD_S
        if poll.poll(
            1000 * (period_s - time.time() % period_s)
        ):  # all at once: ranks that wait for each other lose least
            break
        now = time.monotonic()
        watcher.look(min(now - last, 2 * period_s))
        last = now
    if outlive and struct.unpack_from("<q", page, STAGE)[0] == CONNECTING:  # as where MPI_Init itself has failed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        see_to_end(launcher, began)
