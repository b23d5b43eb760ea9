"""The page of memory in which a rank shows the watchers of its host what it is doing."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from contextlib import suppress

CONNECTING, CONNECTED, RECOVERING, LEAVING, ENDED, FAILING = range(6)
"""Stages of a rank: within MPI_Init, at work, finding the others after a loss, within MPI_Finalize, done; or about to
fail, since MPI told it that another one has died."""
SPARE, WATCHED, ALL_NEAR = 1, 2, 4
"""Flags of a rank: the others can continue without it; its own watchdog limits the time that it waits; all other ranks
are on its host."""
STACK_SIGNAL = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else 0
"""Upon it a rank prints the stack of its main thread; 0 on systems that have no such signals. MPIs, launchers and
libraries leave them alone."""

PAGE_BYTES = 1 << 16
_HEADER = struct.Struct("<qqqqqqdd160s")
_NAMES = ("stage", "beats", "wait", "end", "flags", "near", "abort_s", "stack_s", "activity")
_PLACES = {name: 8 * number for number, name in enumerate(_NAMES)}
_ACTIVITY_BYTES = 160
_ENTRY = struct.Struct("<qqqq")
_TABLE = 256
MOST_NEAR = (PAGE_BYTES - _TABLE) // _ENTRY.size


class RankSnapshot:
    """The state of a rank at one moment, as its page shows it."""

    def __init__(self, page: RankPage) -> None:
        stage, beats, wait, _, flags, self.near, abort_s, stack_s, activity = _HEADER.unpack_from(page.memory)
        self.stage: int = stage
        self.beats: int = beats
        """How often it has looked at itself."""
        self.wait: int = wait
        """A number of the call that it waits in; 0 if it does not wait."""
        self.flags: int = flags
        self.abort_s: float = abort_s
        """After how many seconds a stall ends the job."""
        self.stack_s: float = stack_s
        """After how many seconds in which no Python runs it shows where it is; 0 for never."""
        self.activity: str = activity.rstrip(b"\0").decode(errors="replace")


class RankPage:
    """One rank's page: the rank writes it, and its watcher and those of other ranks read it."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory

    @classmethod
    def of(cls, process: int, file: int) -> RankPage | None:
        """Return the page that another process has open as `file`, for reading; None if it can't be seen."""
        with suppress(OSError, ValueError):
            opened = os.open(f"/proc/{process}/fd/{file}", os.O_RDONLY)
            try:
                return cls(mmap.mmap(opened, PAGE_BYTES, prot=mmap.PROT_READ))
            finally:
                os.close(opened)
        return None

    def write(self, name: str, value: int) -> None:
        """Show a number."""
        struct.pack_into("<q", self.memory, _PLACES[name], value)

    def read(self, name: str) -> int:
        """Return a number."""
        return int(struct.unpack_from("<q", self.memory, _PLACES[name])[0])

    def write_seconds(self, name: str, seconds: float) -> None:
        """Show a time."""
        struct.pack_into("<d", self.memory, _PLACES[name], seconds)

    def write_activity(self, text: str) -> None:
        """Show what the rank is doing."""
        struct.pack_into(f"{_ACTIVITY_BYTES}s", self.memory, _PLACES["activity"], text.encode())

    def write_near(self, ranks: list[tuple[int, int, int, int]]) -> None:
        """Show which other ranks are near: rank, process, when that began, and the file of its page."""
        for number, entry in enumerate(ranks):
            _ENTRY.pack_into(self.memory, _TABLE + number * _ENTRY.size, *entry)
        self.write("near", len(ranks))

    def read_near(self) -> list[tuple[int, int, int, int]]:
        """Return what `write_near` has written."""
        table = self.memory[_TABLE : _TABLE + self.read("near") * _ENTRY.size]
        return list(_ENTRY.iter_unpack(table))
