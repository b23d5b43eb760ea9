"""What updates parameters: one class for each arithmetic, behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hpcnn.optim.links import Array, Chain, State


class Segment(Protocol):
    """Updates and parameters of equal length that stay where they are, with their state."""

    @property
    def updates(self) -> Array:
        """(n,)."""

    @property
    def params(self) -> Array:
        """(n,)."""

    def run(self, chain: Chain) -> None:
        """Do a chain in place."""

    def squares(self, x: Array) -> list[float]:
        """Return the sum of squares of each cell, in float64; `x` is `updates` or `params`."""


class Arithmetic(Protocol):
    """How vectors are updated. What is given to the same arithmetic comes to the same bits, however it is cut."""

    name: str

    def segment(self, updates: Array, params: Array, state: State, scratch: Array, marks: Sequence[int]) -> Segment:
        """Return a segment.

        Args:
            updates: (n,), and `params` and each of `state` as well.
            params: read by some links, written by APPLY.
            state: by name.
            scratch: (n,) at least, which any number of segments may share.
            marks: where its cells begin, then n; they are what squares are added over.
        """

    def finite_squares(self, x: Array) -> bool:
        """Return whether all entries are finite, and their squares too."""

    def total(self, x: Array, *, square: bool, spare: Array) -> float:
        """Return the sum of squares or magnitudes, in float64; `spare` is as long as `x`."""

    def cell_squares(self, x: Array, entries: int) -> Array:
        """Return the sums of squares, in float64, of cells of so many entries; the last one may be shorter."""

    def power(self, x: float, y: float) -> float:
        """Return x to the power of y."""

    def cospi(self, x: float) -> float:
        """Return the cosine of pi x."""
