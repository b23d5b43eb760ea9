"""The sum of the stats by recursive halving: every rank adds them whole, from what travels beside the vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from hpcnn.comm.exchange.buffers import summing
from hpcnn.comm.exchange.halving import Group, Round
from hpcnn.comm.exchange.merging import Step
from hpcnn.comm.protocol import Array
from hpcnn.core.tree import Subtree


class HalvingStats:
    """The sums of the stats of one rank's host, and of those that it hears of round by round.

    Args:
        length: entries of the stats.
        plan: the rounds.
        subtrees_of: returns the subtrees whose sums a group of hosts has.
    """

    def __init__(self, length: int, plan: Sequence[Round], subtrees_of: Callable[[Group], list[Subtree]]) -> None:
        self._plan, self._length, self._subtrees_of = plan, length, subtrees_of
        self._targets: list[list[Array]] = [[] for _ in plan]
        self._sources: list[Array] = [np.empty(0)] * len(plan)

    def size(self, group: Group) -> int:
        """Return how many entries tell the sums of a group."""
        return self._length * len(self._subtrees_of(group))

    def send(self, number: int, message: Array) -> None:
        """Write the sums that are there before a round into `message` too."""
        self._targets[number].append(message)

    def receive(self, number: int, message: Array) -> None:
        """Take from `message` what the round brings."""
        self._sources[number] = message

    def stages(self, slots: Sequence[Array], subtrees: Sequence[Subtree], total: Array) -> list[list[Step]]:
        """Return what to do before the first round and after each, in order to sum the slots of all hosts into `total`.

        Leaves `slots`, those of the own host, as they are.
        """
        stages = []
        held = list(zip(subtrees, slots, strict=True))
        for current, targets, source in zip(self._plan, self._targets, self._sources, strict=True):
            own = self._subtrees_of(current.side)
            sums = np.zeros((len(own), self._length))
            steps = [step for subtree, row in zip(own, sums, strict=True) for step in _sum(row, subtree, held)]
            flat = sums.reshape(-1)
            stages.append([*steps, *(_copy(target, flat) for target in targets)])
            other = self._subtrees_of(current.other)
            held = [*zip(own, sums, strict=True), *zip(other, source.reshape(len(other), self._length), strict=True)]
            held.sort(key=lambda each: each[0])
        root = (held[0][0][0], held[-1][0][1])
        return [*stages, _sum(total, root, held)]


def _sum(out: Array, subtree: Subtree, held: Sequence[tuple[Subtree, Array]]) -> list[Step]:
    return summing(out, subtree, [row for _, row in held], [each for each, _ in held])


def _copy(target: Array, source: Array) -> Step:
    return partial(np.copyto, target, source)
