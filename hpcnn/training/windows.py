"""Windows of decoded chunks in memory that the ranks of a node share: each chunk is decoded once a node and epoch."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator

import numpy as np

from hpcnn.comm.protocol import Array, Communicator
from hpcnn.data.rows import ArrayRows, Rows
from hpcnn.data.sampler import Indices, WindowOrder
from hpcnn.data.source import check_memory
from hpcnn.kernels.loading import find_core
from hpcnn.training.read_ahead import Reading

SLOTS = 2
"""Windows that are held at once: the one that rows are taken from, and the next."""
WRITTEN, PASSED = 0, 1
"""Rows of the flags: how many windows a rank has decoded its share of, and how many it needs no longer."""

_LOCK = threading.Lock()


def _fence() -> None:
    """Let all that this thread wrote be seen before what it writes from here on, and read nothing too early."""
    core = find_core()
    if core is not None:
        core.fence()
        return
    with _LOCK:  # taking a lock is a fence as well
        pass


class WindowRows:
    """Stored rows, taken from the window that holds them."""

    def __init__(self, windows: Windows, rows: Rows, memory: Array) -> None:
        self.rows, self.memory = rows, memory
        self.shape, self.dtype = rows.shape, rows.dtype
        self._windows, self._held = windows, ArrayRows(memory)

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows of the current window into `out`; see `Rows.take`."""
        self._held.take(self._windows.places(indices), out)


class Windows:
    """Two windows of chunks of some stored rows. The chunks of a window are dealt to the ranks of the node.

    One thread a rank goes through an epoch: for each window `enter`, rows, `leave`; `advance` in between. Ranks wait
    for one another by flags in their memory, as a thread may do while the main one is in a collective. None waits for
    one that is behind it in the order of windows, so that all come to the end.

    Args:
        stored: the rows, each of the same number.
        comm: the ranks. Collective.
        shared: whether the ranks of a node share the windows, or have each its own.
    """

    def __init__(
        self, stored: Iterable[Rows], comm: Communicator, chunk_rows: int, window_chunks: int, *, shared: bool
    ) -> None:
        self._chunk_rows, self._window_chunks = chunk_rows, window_chunks
        places = SLOTS * window_chunks * chunk_rows
        self.rows: dict[Rows, WindowRows] = {}
        for rows in stored:
            length = places * math.prod(rows.shape[1:])
            check_memory(
                length * rows.dtype.itemsize, f"data.window_chunks = {window_chunks} (chunks of {chunk_rows} rows)",
                "Two windows are held: choose a smaller one.",
            )  # fmt: skip
            memory = comm.host_array(length, rows.dtype, shared=shared).array.reshape(places, *rows.shape[1:])
            self.rows[rows] = WindowRows(self, rows, memory)
        self._flags = comm.host_array(2 * comm.size, np.int64, shared=shared)
        self._rank, self._size = self._flags.rank, self._flags.size
        flags = self._flags.array.reshape(2, comm.size)[:, : self._size]
        self._written, self._passed = flags[WRITTEN], flags[PASSED]
        self._order = WindowOrder(*(np.zeros(0, np.int64),) * 3)
        self._starts = np.zeros(0, np.int64)
        self._current = self._next = self._decoded = 0

    def places(self, indices: Indices) -> Indices:
        """Return where stored rows are in the memory of the windows."""
        return np.asarray(self._starts[indices // self._chunk_rows] + indices % self._chunk_rows)

    def start_epoch(self, order: WindowOrder, position: int) -> None:
        """Go through `order`, from the window of the sample at `position` on. Collective; no thread may read."""
        self._flags.barrier()  # the others may still read the end of the epoch before
        self._order = order
        self._starts = np.zeros(int(order.chunks.max()) + 1, np.int64)
        place = np.arange(len(order.chunks)) % (SLOTS * self._window_chunks)
        self._starts[order.chunks] = place * self._chunk_rows
        self._current = self._next = self._window_at(position)
        self._decoded = 0
        self._written[self._rank] = self._passed[self._rank] = self._current
        self._flags.barrier()

    def parts(self, begin: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield each window that holds samples of [begin, end) of the order, and which of them."""
        ends = self._order.ends
        for window in range(self._window_at(begin), self._window_at(end - 1) + 1):
            yield window, (max(begin, int(ends[window - 1]) if window else 0), min(end, int(ends[window])))

    def _window_at(self, position: int) -> int:
        return int(np.searchsorted(self._order.ends, position, "right"))

    def enter(self, window: int, reading: Reading) -> None:
        """Return once all chunks of the window are there."""
        while self._next <= window:
            reading.wait_until(self._free)
            self._decode(len(self._share(self._next)), reading)
        reading.wait_until(lambda: bool((self._written > window).all()))
        _fence()
        self._current = window

    def leave(self, window: int, position: int) -> None:
        """Say that this rank has taken what it needs up to that place of the order."""
        if position == self._order.ends[window]:
            _fence()
            self._passed[self._rank] = window + 1

    def advance(self, position: int, reading: Reading) -> None:
        """Decode as much of this rank's share of the next window as the order has come forward in the current one."""
        ends, window = self._order.ends, self._current
        if self._next != window + 1 or self._next == len(ends) or not self._free():
            return
        begin = int(ends[window - 1]) if window else 0
        done = (position - begin) / max(1, int(ends[window]) - begin)
        self._decode(math.ceil(min(1.0, done) * len(self._share(self._next))), reading)

    def _free(self) -> bool:
        """Return whether nobody needs what was in the place of the next window."""
        free = bool((self._passed > self._next - SLOTS).all())
        _fence()
        return free

    def _share(self, window: int) -> Indices:
        """Return the chunks of a window that this rank decodes."""
        first = window * self._window_chunks
        return self._order.chunks[first : first + self._window_chunks][self._rank :: self._size]

    def _decode(self, count: int, reading: Reading) -> None:
        """Decode the first `count` chunks of this rank's share of the next window that are not there yet."""
        share = self._share(self._next)
        for chunk in share[self._decoded : count].tolist():
            first = chunk * self._chunk_rows
            for rows, held in self.rows.items():
                indices = np.arange(first, min(first + self._chunk_rows, rows.shape[0]), dtype=np.int64)
                place = int(self._starts[chunk])
                rows.take(indices, held.memory[place : place + len(indices)])
            self._decoded += 1
            reading.tick()
        if self._decoded == len(share):
            _fence()
            self._next, self._decoded = self._next + 1, 0
            self._written[self._rank] = self._next
