"""Sums of subtrees of which some parts are there: what to add, what to round on the way, and where to write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hpcnn.comm.exchange.buffers import BLOCK, fold, fold_block
from hpcnn.comm.exchange.compression import OwnResiduals, feed_back
from hpcnn.comm.exchange.formats import Format
from hpcnn.comm.exchange.reduction import Sum
from hpcnn.comm.protocol import Array
from hpcnn.core.tree import Subtree

Step = Callable[[], None]


@dataclass(frozen=True)
class Piece:
    """The sum of a subtree over entries [start, start + values.size) of the vector."""

    subtree: Subtree
    start: int
    values: Array

    def part(self, start: int, stop: int) -> Array:
        """Return some of the values."""
        return self.values[start - self.start : stop - self.start]


@dataclass(frozen=True)
class Merge:
    """How the sum of a subtree is made of slots."""

    slot: int
    """Where it is in the end."""
    order: Sequence[tuple[int, int, str]]
    """(i, j, name): add slot j to slot i, unless they are the same; then round by the residual of that name, if any."""

    @classmethod
    def of(cls, subtree: Subtree, slots: Sequence[Subtree], names: Mapping[Subtree, str], *, raw: bool) -> Merge:
        """Return the merge of `slots` into `subtree`, which rounds the subtrees in `names`.

        Of the slots themselves, those in `names` have been rounded before unless they are `raw`.

        >>> Merge.of((0, 4), [(0, 2), (2, 3), (3, 4)], {(0, 2): "a", (2, 4): "b"}, raw=False)
        Merge(slot=0, order=[(1, 2, 'b'), (0, 1, '')])
        """
        places = {each: place for place, each in enumerate(slots)}
        order: list[tuple[int, int, str]] = []

        def descend(lo: int, hi: int) -> int:
            name = names.get((lo, hi), "")
            if (lo, hi) in places:
                left = right = places[lo, hi]
                name = name if raw else ""
            else:
                left, right = descend(lo, (lo + hi) // 2), descend((lo + hi) // 2, hi)
            if left != right or name:
                order.append((left, right, name))
            return left

        slot = descend(*subtree)
        return cls(slot, order)


class Rounding:
    """What rounds the sums of groups.

    Args:
        form: what to round to.
        residuals: what the roundings owe.
        names: under which name each group's are kept.
    """

    def __init__(self, form: Format, residuals: OwnResiduals, names: Mapping[Subtree, str]) -> None:
        self.form, self.residuals, self.names = form, residuals, names
        self._wire = form.empty(BLOCK)

    def apply(self, values: Array, residual: Array) -> None:
        """Round up to `BLOCK` values in place."""
        feed_back(self.form, values, residual, self._wire[: values.size])


def merging(
    merge: Merge, slots: Sequence[Piece], start: int, stop: int, out: Array | None, rounding: Rounding | None
) -> Iterator[Step]:
    """Yield what sums some entries of `slots`, which are used up, into the slot of the merge and into `out`.

    `out`, if given, has the type of the slots, or that of the form of `rounding`.
    """
    parts = [slot.part(start, stop) for slot in slots]
    if start == stop or (out is None and not merge.order):
        return
    if rounding is None:
        pairs = [(left, right) for left, right, _ in merge.order]
        used = parts if pairs else [parts[merge.slot]]
        yield partial(fold, used, pairs, parts[merge.slot] if out is None else out)
        return
    encode = out is not None and out.dtype != parts[0].dtype
    residuals = _residuals(merge, start, stop, rounding)
    yield partial(_merge_blocks, merge, parts, residuals, rounding, out, encode=encode)


def summing_into(merge: Merge, slots: Sequence[Piece], start: int, stop: int, rounding: Rounding | None) -> Sum:
    """Return what writes some entries of a merge into an array, and uses up the slots."""
    parts = [slot.part(start, stop) for slot in slots]
    if rounding is None:
        return partial(fold_block, parts, [(left, right) for left, right, _ in merge.order])
    return partial(_merge_blocks, merge, parts, _residuals(merge, start, stop, rounding), rounding, encode=False)


def _residuals(merge: Merge, start: int, stop: int, rounding: Rounding) -> dict[str, Array]:
    names = {name for _, _, name in merge.order if name}
    return {name: rounding.residuals.view(name, start, stop) for name in names}


def _merge_blocks(
    merge: Merge,
    slots: Sequence[Array],
    residuals: Mapping[str, Array],
    rounding: Rounding,
    out: Array | None,
    *,
    encode: bool,
) -> None:
    for start in range(0, slots[0].size, BLOCK):
        part = slice(start, start + BLOCK)
        blocks = [slot[part] for slot in slots]
        for left, right, name in merge.order:
            if left != right:
                np.add(blocks[left], blocks[right], out=blocks[left])
            if name:
                rounding.apply(blocks[left], residuals[name][part])
        if out is not None and encode:
            rounding.form.encode(blocks[merge.slot], out[part])
        elif out is not None:
            np.copyto(out[part], blocks[merge.slot])
