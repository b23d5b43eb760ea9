"""An optimizer: a chain of transforms, bound to the parameters that it updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpcnn.core.tree import tree_total
from hpcnn.errors import CheckpointError
from hpcnn.optim.arithmetic import Arithmetic, Segment
from hpcnn.optim.links import Array, Block, Chain, Kind, Link
from hpcnn.optim.numpy_arithmetic import NUMPY
from hpcnn.optim.transforms import Norms, Parameter, StepInfo, Transform
from hpcnn.system.memory import kept_empty

NORM_BLOCK = 8192
"""Entries over which norms are added at a time, counted from the first: part of what defines the bits."""


@dataclass(frozen=True)
class Optimizer:
    """What turns a gradient into a step, without state of its own."""

    transforms: Sequence[Transform]
    """Ends with the learning rate: what comes out is subtracted from the parameters."""
    learning_rate: float
    decay: float = 0.0
    """Inverse-time decay per step."""

    @cached_property
    def stages(self) -> list[list[Transform]]:
        """The transforms, cut before each that needs a norm."""
        stages: list[list[Transform]] = [[]]
        for transform in self.transforms:
            if transform.needs != "nothing":
                stages.append([])
            stages[-1].append(transform)
        return stages

    def init(self, params: Array) -> dict[str, Array]:
        """Return the state at the start, for parameters of shape (n,)."""
        return {name: value for transform in self.transforms for name, value in transform.init(params).items()}

    def step_info(self, step: int, factor: float = 1.0) -> StepInfo:
        """Return what transforms know of `step`; `factor` is what schedules make of the learning rate."""
        return StepInfo(step, self.learning_rate * factor / (1 + self.decay * step))


@dataclass(frozen=True)
class _Piece:
    """What one part has of one parameter."""

    parameter: int
    segment: Segment


class BoundOptimizer:
    """An optimizer with its state, for some `parts` of a vector of parameters that stays where it is.

    A step is `begin`; then the sums of each part are written into `gradients`, and it goes through `check` and
    `update`. With `reductions`, all parts go through `squares` before each `reduce`, and `update` after the last.
    `repeats`: whether the caller can give the gradient of a part again after the last `reduce`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        params: Array,
        parts: Sequence[slice],
        parameters: Sequence[Parameter],
        *,
        repeats: bool = False,
        arithmetic: Arithmetic = NUMPY,
    ) -> None:
        self.optimizer, self.parts, self.arithmetic = optimizer, tuple(parts), arithmetic
        self._stages = optimizer.stages
        self.reductions = len(self._stages) - 1
        """How many times a step needs the norms of all parts."""
        self._shape = params.shape
        by_parameter = any(
            each.needs == "per_parameter" or not all(map(each.applies_to, parameters)) for each in optimizer.transforms
        )
        self._segmented = by_parameter
        """Whether each parameter has a plan of its own, or all have one."""
        self._parameters = tuple(parameters) if by_parameter else (Parameter("", params.shape, 0),)
        self.keeps = bool(self.reductions) and not (repeats and self._only_scales)
        """Whether each part has a gradient of its own, given once a step. Else all share one, given before `update`."""
        sizes = [part.stop - part.start for part in parts]
        self.state = optimizer.init(np.empty(sum(sizes), params.dtype))
        """Vectors over the parts, one part after the other."""
        self.not_finite_at: int | None = None
        """The entry of the first gradient that was found not to be finite."""
        longest = max(sizes, default=0)
        self._scratch = kept_empty(longest, params.dtype)
        store = kept_empty(sum(sizes) if self.keeps else longest, params.dtype)
        self.gradients: list[Array] = []
        """Where the gradient sums of each part belong."""
        self._pieces: list[list[_Piece]] = []
        position = 0
        for part, size in zip(parts, sizes, strict=True):
            first = position if self.keeps else 0
            self.gradients.append(store[first : first + size])
            self._pieces.append(self._cut(part, position, params))
            position += size

    @property
    def _only_scales(self) -> bool:
        """Whether nothing but the factor changes before the last stage."""
        return not self._segmented and not any(self._stages[:-1])

    def _cut(self, part: slice, position: int, params: Array) -> list[_Piece]:
        """Return the pieces of a part, whose state begins at `position`."""
        gradient, pieces = self.gradients[-1], []
        for index, parameter in enumerate(self._parameters):
            lo, hi = max(part.start, parameter.start), min(part.stop, parameter.start + parameter.size)
            if lo < hi:
                own = slice(position + lo - part.start, position + hi - part.start)
                state = {name: value[own] for name, value in self.state.items()}
                updates = gradient[lo - part.start : hi - part.start]
                marks = [*(mark - lo for mark in _marks(lo, hi)), hi - lo]
                segment = self.arithmetic.segment(updates, params[lo:hi], state, self._scratch, marks)
                pieces.append(_Piece(index, segment))
        return pieces

    def begin(self, info: StepInfo, count: float) -> None:
        """Plan a step with gradients that are sums over `count` samples."""
        info = StepInfo(info.step, info.learning_rate, None, self.arithmetic.power)
        self._info, self._count, self._stage = info, count, 0
        self._factors = [1.0 / count] * len(self._parameters)
        self._plan([info] * len(self._parameters))

    def _plan(self, infos: Sequence[StepInfo]) -> None:
        self._chains: list[Chain] = []
        for index, parameter in enumerate(self._parameters):
            factor, links = self._factors[index], list[Link | Block]()
            for transform in self._stages[self._stage]:
                if self._segmented and not transform.applies_to(parameter):
                    continue
                link, factor = transform.at(infos[index], factor)
                if link is not None:
                    links.append(link)
            if self._stage == self.reductions:
                links.append(Link(Kind.APPLY, (factor,)))
            elif self._segmented:  # norms of each parameter are those of what is there
                links.append(Link(Kind.SCALE, (factor,)))
                factor = 1.0
            self._chains.append(Chain(links))
            self._factors[index] = factor

    def check(self, number: int) -> bool:
        """Return whether every gradient of a part is finite, and its square too."""
        gradient = self.gradients[number]
        if self.arithmetic.finite_squares(gradient):
            return True
        wrong = np.flatnonzero(~np.isfinite(gradient))
        if wrong.size and self.not_finite_at is None:
            self.not_finite_at = self.parts[number].start + int(wrong[0])
        return False

    def update(self, number: int) -> None:
        """Do what is left to do for a part, and update its parameters."""
        for piece in self._pieces[number]:
            piece.segment.run(self._chains[piece.parameter])

    def squares(self, number: int) -> list[list[float]]:
        """Do the work of the stage on a part; return a row of sums of squares per cell: of updates, and of params."""
        rows: list[list[float]] = []
        for piece in self._pieces[number]:
            segment = piece.segment
            segment.run(self._chains[piece.parameter])
            vectors = [segment.updates, segment.params] if self._segmented else [segment.updates]
            rows += map(list, zip(*map(segment.squares, vectors), strict=True))
        return rows

    @property
    def columns(self) -> int:
        """Entries of a row of `squares`."""
        return 1 + self._segmented

    @property
    def cells(self) -> list[int]:
        """The entries of the vector that its cells begin at, those of other ranks included."""
        return [mark for each in self._parameters for mark in _marks(each.start, each.start + each.size)]

    def reduce(self, rows: Array) -> None:
        """Begin the next stage, by the rows of all cells of the vector."""
        self._stage += 1
        if self._stages[self._stage][0].needs == "global":
            norms = [self._norms(rows)] * len(self._parameters)
        else:
            ends = np.cumsum([len(_marks(each.start, each.start + each.size)) for each in self._parameters])
            norms = [self._norms(each) for each in np.split(rows, ends[:-1])]
        self._plan([self._info._replace(norms=each) for each in norms])

    def _norms(self, rows: Array) -> Norms:
        totals = [math.sqrt(tree_total(column.tolist())) for column in rows.T]
        if self._segmented:
            return Norms(*totals)
        # Of gradient sums, with 1 / count outstanding: to divide rounds once, to multiply by the inverse twice.
        factor, norm = self._factors[0], totals[0]
        return Norms(norm / self._count if factor == 1.0 / self._count else norm * factor, math.nan)

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take the own parts of whole vectors by name. CheckpointError: they are of another optimizer or model."""
        given = {name: value.shape for name, value in state.items()}
        wanted = dict.fromkeys(self.state, self._shape)
        if given != wanted:
            raise CheckpointError(
                f"the optimizer state does not match this optimizer: the file holds {given}, the job needs {wanted}"
            )
        for name, own in self.state.items():
            np.concatenate([state[name][part] for part in self.parts] or [own[:0]], out=own)


def _marks(start: int, stop: int) -> list[int]:
    """Return where the cells of some entries begin: at the first, and at multiples of `NORM_BLOCK`."""
    return [start, *range((start // NORM_BLOCK + 1) * NORM_BLOCK, stop, NORM_BLOCK)] if start < stop else []
