"""Links in the compiled core: a chain is one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from hpcnn.kernels import core
from hpcnn.optim.links import Array, Chain, Run, Shape, State


class NativeSegment:
    """A segment for the core, with the chains that were done on it; see `Segment`."""

    def __init__(self, updates: Array, params: Array, state: State, scratch: Array, marks: Sequence[int]) -> None:
        self.updates, self.params = updates, params
        self._state, self._scratch = state, scratch
        self._marks = np.array(marks, np.int64)
        self._sums = np.empty(len(marks) - 1)
        self._prepared: list[tuple[Shape, core.Update]] = []

    def run(self, chain: Chain) -> None:
        """Do a chain in place."""
        for run in chain.runs:
            if isinstance(run, Run):
                self._prepare(run.shape).run(run.constants)
            else:
                run(self.updates, self._state, self.params, self._scratch)

    def _prepare(self, shape: Shape) -> core.Update:
        """Return the core's object for neighbouring links, made when they are first met."""
        for known, update in self._prepared:
            if known == shape:
                return update
        links = []
        for kind, names in shape:
            first, second = [*(self._state[name] for name in names), None, None][:2]
            links.append((int(kind), 0, self.updates.size, first, second))
        update = core.Update(self.updates, self.params, links)
        self._prepared.append((shape, update))
        return update

    def squares(self, x: Array) -> list[float]:
        """Return the sum of squares of each cell."""
        core.cell_sums(x, self._marks, self._sums, True)
        return self._sums.tolist()


class NativeArithmetic:
    """The compiled core; see `Arithmetic`. The bits depend on neither processor nor libraries."""

    name = "native"

    def segment(
        self, updates: Array, params: Array, state: State, scratch: Array, marks: Sequence[int]
    ) -> NativeSegment:
        """Return a segment."""
        return NativeSegment(updates, params, state, scratch[: updates.size], marks)

    def finite_squares(self, x: Array) -> bool:
        """Return whether all entries are finite, and their squares too."""
        return core.find_not_finite(x, True) < 0

    def total(self, x: Array, *, square: bool, spare: Array) -> float:
        """Return the sum of squares or magnitudes."""
        out = np.empty(1)
        core.cell_sums(x, np.array([0, x.size], np.int64), out, square)
        return float(out[0])

    def cell_squares(self, x: Array, entries: int) -> Array:
        """Return the sum of squares of each cell."""
        marks = _marks(x.size, entries)
        out = np.empty(len(marks) - 1)
        core.cell_sums(x, marks, out, True)
        return out

    power = staticmethod(core.pow)
    cospi = staticmethod(core.cospi)


@lru_cache(maxsize=16)
def _marks(size: int, entries: int) -> Array:
    """Return where the cells of a vector begin, and where the last one ends."""
    return np.append(np.arange(0, size, entries, dtype=np.int64), size)


NATIVE = NativeArithmetic()
