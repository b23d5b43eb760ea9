"""Links: what transforms do to a block of updates.

A link is a kind with the constants of a step, so that each arithmetic can do a chain of them in its own way: NumPy
operation by operation, the compiled core in one pass.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]
State = Mapping[str, Array]
"""Vectors as long as the parameters, by name."""
Block = Callable[[Array, State, Array, Array], None]
"""``(updates, state, params, scratch)``: change `updates` and `state` in place. All are equally long."""


class Kind(IntEnum):
    """What links there are: `link_kind` of hpcnn/kernels/operations.h, which has their formulas and constants."""

    SCALE = 0
    CLIP_VALUE = 1
    DECAY = 2
    PENALTY_L1 = 3
    MOMENTUM = 4
    NESTEROV = 5
    ADAM = 6
    RMS = 7
    RMS_CENTERED = 8
    ADAGRAD = 9
    APPLY = 10


class Link(NamedTuple):
    """One kind of work with the constants of a step."""

    kind: Kind
    constants: tuple[float, ...]
    states: tuple[str, ...] = ()
    """Names of the vectors of state that it reads and writes."""


Shape = list[tuple[Kind, tuple[str, ...]]]
"""Kind and states of neighbouring links: the same in every step."""


class Run(NamedTuple):
    """Neighbouring links of a chain, as the core takes them."""

    shape: Shape
    constants: array[float]
    """Five doubles a link."""


class Chain:
    """What is done to each block of one parameter, or of all, at one stage of a step."""

    def __init__(self, links: Sequence[Link | Block]) -> None:
        self.links = links

    @cached_property
    def runs(self) -> list[Run | Block]:
        """The links, those next to each other together."""
        runs: list[Run | Block] = []
        links: list[Link] = []
        for each in self.links:
            if isinstance(each, Link):
                links.append(each)
            else:
                runs += [*_together(links), each]
                links = []
        return runs + _together(links)


def _together(links: Sequence[Link]) -> list[Run | Block]:
    if not links:
        return []
    constants = array("d")
    for link in links:
        constants.extend(link.constants)
        constants.extend((0.0,) * (5 - len(link.constants)))
    return [Run([(link.kind, link.states) for link in links], constants)]
