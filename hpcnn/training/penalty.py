"""L1 and L2 penalties of weights: what they add to the loss, and to the gradient of each part of the vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcnn.comm.protocol import Array
from hpcnn.nn.params import ParamLayout
from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.links import Chain, Kind, Link
from hpcnn.optim.numpy_arithmetic import NUMPY
from hpcnn.system.memory import aligned_empty


def penalty(layout: ParamLayout, params: Mapping[str, Array], spare: Array, arithmetic: Arithmetic = NUMPY) -> float:
    """Return the sum of the penalties of the weights as they are; `spare` is as long as the longest that has one."""
    total = 0.0
    for spec in layout.penalized:
        weights = params[spec.name].reshape(-1)
        for rate, square in ((spec.l2, True), (spec.l1, False)):
            if rate:
                total += rate * arithmetic.total(weights, square=square, spare=spare[: spec.size])
    return total


class PenaltyGradient:
    """Adds the penalties' gradient to the `gradients` of some `parts` of the vector of trainable `params`."""

    def __init__(
        self,
        layout: ParamLayout,
        params: Array,
        parts: Sequence[slice],
        gradients: Sequence[Array],
        arithmetic: Arithmetic = NUMPY,
    ) -> None:
        found = [
            [
                (slice(lo - part.start, hi - part.start), params[lo:hi], spec)
                for spec in layout.penalized
                for lo, hi in [_overlap(part, layout.offsets[spec.name], spec.size)]
                if lo < hi
            ]
            for part in parts
        ]
        longest = max((weights.size for terms in found for _, weights, _ in terms), default=0)
        spare = aligned_empty(longest, params.dtype)
        self._terms = [
            [
                (arithmetic.segment(gradient[where], weights, {}, spare, [0, weights.size]), spec.l1, spec.l2)
                for where, weights, spec in terms
            ]
            for terms, gradient in zip(found, gradients, strict=True)
        ]

    def add(self, number: int, count: float) -> None:
        """Add to the gradient sums over `count` samples of the part of that number."""
        for segment, l1, l2 in self._terms[number]:
            links = [Link(Kind.DECAY, (2 * l2 * count, 1.0))] if l2 else []
            links += [Link(Kind.PENALTY_L1, (l1 * count,))] if l1 else []
            segment.run(Chain(links))


def _overlap(part: slice, start: int, size: int) -> tuple[int, int]:
    return max(part.start, start), min(part.stop, start + size)
