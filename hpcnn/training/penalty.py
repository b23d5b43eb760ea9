"""L1 and L2 penalties of weights: what they add to the loss, and to the gradient of each part of the vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.nn.params import ParamLayout
from hpcnn.system.memory import aligned_empty


def penalty(layout: ParamLayout, params: Mapping[str, Array], spare: Array) -> float:
    """Return the sum of the penalties of the weights as they are; `spare` is as long as the longest that has one."""
    total = 0.0
    for spec in layout.penalized:
        weights = params[spec.name].reshape(-1)
        for rate, magnitude in ((spec.l2, np.square), (spec.l1, np.abs)):
            if rate:
                each = magnitude(weights, out=spare[: spec.size])
                total += rate * float(np.add.reduce(each, dtype=np.float64))
    return total


class PenaltyGradient:
    """Adds the penalties' gradient, for some `parts` of the vector of trainable `params`."""

    def __init__(self, layout: ParamLayout, params: Array, parts: Sequence[slice]) -> None:
        self._terms = [
            [
                (slice(lo - part.start, hi - part.start), params[lo:hi], spec.l1, spec.l2)
                for spec in layout.penalized
                for lo, hi in [_overlap(part, layout.offsets[spec.name], spec.size)]
                if lo < hi
            ]
            for part in parts
        ]
        longest = max((where.stop - where.start for terms in self._terms for where, *_ in terms), default=0)
        self._spare = aligned_empty(longest, params.dtype)

    def add(self, number: int, gradient: Array, count: float) -> None:
        """Add to the gradient sums over `count` samples of the part of that number."""
        for where, weights, l1, l2 in self._terms[number]:
            target, spare = gradient[where], self._spare[: weights.size]
            if l2:
                np.add(target, np.multiply(weights, 2 * l2 * count, out=spare), out=target)
            if l1:
                np.sign(weights, out=spare)
                np.add(target, np.multiply(spare, l1 * count, out=spare), out=target)


def _overlap(part: slice, start: int, size: int) -> tuple[int, int]:
    return max(part.start, start), min(part.stop, start + size)
