"""Another rank of the same host, as a watcher sees it."""

from __future__ import annotations

from hpcnn.comm.supervision.rank_page import CONNECTED, ENDED, LEAVING, RankPage, RankSnapshot
from hpcnn.system.proc_files import stat_of

BUSY_TICKS = 1
"""A rank that uses more hundredths of a second per period is busy: updating its page takes less."""


class NearRank:
    """Another rank of this host, once all are connected."""

    def __init__(self, rank: int, process: int, began: int, file: int) -> None:
        self.rank, self.process, self._began = rank, process, began
        self.stopped_s = self.idle_s = 0.0
        """For how long it has been stopped, and has hardly used a processor, as far as it was looked at."""
        self.is_gone = self.has_died = False
        """As `look` has found it: one that has ended its work and left is gone, but has not died."""
        self.page = RankPage.of(process, file)
        self.shown: RankSnapshot | None = None
        """What it showed when it was looked at; None if that can't be seen."""
        self._ticks = 0

    def look(self, seconds: float) -> str:
        """Return why nobody should wait for it; empty if it may come."""
        fields = stat_of(self.process)
        self.shown = RankSnapshot(self.page) if self.page is not None else None
        state = fields[0] if fields else "Z"
        ticks = int(fields[11]) + int(fields[12]) if fields else 0
        self.idle_s = 0.0 if ticks > self._ticks + BUSY_TICKS else self.idle_s + seconds
        self._ticks = ticks
        self.stopped_s = self.stopped_s + seconds if state in "Tt" else 0.0
        self.is_gone = state in "ZX" or int(fields[19]) != self._began
        self.has_died = self.is_gone and self.stage not in (None, ENDED)
        if self.is_gone and self.stage != ENDED:
            return f"rank {self.rank}, whose process {self.process} is gone,"
        if self.stage in (LEAVING, ENDED):
            return f"rank {self.rank}, which has come to the end of its program,"
        return ""

    def forget(self) -> None:
        """Count again from zero for how long it is stopped or idle."""
        self.stopped_s = self.idle_s = 0.0

    @property
    def stage(self) -> int | None:
        """Its stage; None if it can't be seen."""
        return None if self.shown is None else self.shown.stage

    @property
    def is_at_work(self) -> bool:
        """Whether it may yet come to what others wait for, as far as it shows."""
        return not self.is_gone and self.stage == CONNECTED

    @property
    def waits(self) -> bool:
        """Whether it shows that it waits for others itself."""
        return self.shown is not None and bool(self.shown.wait)
