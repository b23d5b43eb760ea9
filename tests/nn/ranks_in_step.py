"""A network's recorded passes on ranks that are objects: each has some of the shards of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hpcnn.core.tree import additions, fold_rows, maximal_subtrees
from hpcnn.kernels import core
from hpcnn.nn import Context, Network
from hpcnn.nn.layer import BatchSum
from hpcnn.nn.native import NativeArithmetic, ShardRows
from hpcnn.system.memory import aligned_empty

SIZES = (3, 0, 2, 1)
"""Samples of each shard."""
ONE_RANK, EACH_ALONE = (0, 4), (0, 1, 2, 3, 4)
SEED, FIRST, STEP = 5, 20, 7


def aligned(array):
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


class Rank:
    """The recorded pass of one rank over its shards [first, stop)."""

    def __init__(self, network: Network, params, x, dy, first: int, stop: int) -> None:
        starts = [int(start) for start in np.cumsum([0, *SIZES])]
        rows = slice(starts[first], starts[stop])
        self.subtrees = maximal_subtrees(len(SIZES), (first, stop))
        shards = ShardRows(self.subtrees, [start - starts[first] for start in starts[first : stop + 1]])
        self.program = core.Program()
        place = np.array([FIRST + starts[first], STEP], np.uint32)
        ctx = Context(arithmetic=NativeArithmetic(self.program, shards, seed=SEED, place=place))
        self.state = {spec.name: np.full((stop - first, *spec.shape), np.nan) for spec in network.state}
        ctx.begin(training=True, new_state=self.state)
        self.x, self.dy, self._given = aligned(x[rows]), aligned(dy[rows]), dy[rows]
        views = network.layout.gradient_views
        self.vectors = [np.full(network.layout.trainable_size, np.nan, x.dtype) for _ in self.subtrees]
        each = [views(vector) for vector in self.vectors]
        grads = {name: tuple(view[name] for view in each) for name in each[0]}
        self.asked: list[BatchSum] = []
        self.ends: list[int] = []
        self.y, backward = self._stopping(network.steps(params, self.x, ctx))
        self.forward = len(self.ends)
        self.ends.append(len(self.program))
        self.dx = self._stopping(backward.steps(self.dy, grads, need_dx=True))
        self.ends.append(len(self.program))

    def _stopping(self, steps):
        while True:
            try:
                self.asked.append(next(steps))
            except StopIteration as end:
                return end.value
            self.ends.append(len(self.program))

    def run(self, piece: int) -> None:
        if piece == 0:
            self.dy[...] = self._given
        self.program.run(0 if piece == 0 else self.ends[piece - 1], self.ends[piece])
        if piece == self.forward:
            self.outputs = self.y.copy()


def computed(network: Network, params, x, dy, cuts: Sequence[int], *, times: int = 1) -> dict[str, np.ndarray]:
    """Return outputs, both gradients and new state, of ranks that are dealt shards as `cuts` say."""
    ranks = [Rank(network, params, x, dy, *part) for part in pairwise(cuts)]
    for _ in range(times):
        for piece in range(len(ranks[0].ends)):
            for rank in ranks:
                rank.run(piece)
            asked = piece if piece < ranks[0].forward else piece - 1
            if piece == ranks[0].forward or piece == len(ranks[0].ends) - 1:
                continue
            if ranks[0].asked[asked].synchronized:
                total = fold_rows(np.concatenate([rank.asked[asked].sums for rank in ranks]))
                for rank in ranks:
                    rank.asked[asked].totals[...] = total
            for rank in ranks:
                rank.asked[asked].done()
    vectors = [vector for rank in ranks for vector in rank.vectors]
    for left, right in additions(len(SIZES), [subtree for rank in ranks for subtree in rank.subtrees]):
        vectors[left] = vectors[left] + vectors[right]
    found = {"y": np.concatenate([rank.outputs for rank in ranks]), "gradient": vectors[0]}
    found["dx"] = np.concatenate([rank.dx for rank in ranks])
    return found | {name: np.concatenate([rank.state[name] for rank in ranks]) for name in ranks[0].state}
