"""Gradients in two bytes an entry between hosts, with error feedback: what one step's rounding loses, the next adds.

The subtrees at one depth are the groups of a job. The sum of each group is rounded before it is sent, and the sum of
the rounded ones before it is returned, each together with what its last rounding lost, so that over many steps nothing
is lost but the last rounding (Seide et al. 2014, "1-bit stochastic gradient descent"; Karimireddy et al. 2019,
arXiv:1901.09847). This is so on one rank too: the result depends on the number of groups, and on nothing else here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.buffers import BLOCK, fold_block
from hpcnn.comm.exchange.formats import Format
from hpcnn.comm.exchange.partition import Partitions
from hpcnn.comm.exchange.plan import Range
from hpcnn.comm.exchange.reduction import Addends, Addition, Fold, Sum, relay
from hpcnn.comm.exchange.transport import Place, Transfer
from hpcnn.comm.protocol import Array
from hpcnn.core.dealing import Chunk, Dealing
from hpcnn.core.tree import Subtree, leaf_steps
from hpcnn.errors import CheckpointError
from hpcnn.system.memory import aligned_empty

TOTAL = "total"


def name_of(group: int) -> str:
    """Return under which name a checkpoint keeps what a group's roundings owe."""
    return f"group_{group}"


def feed_back(form: Format, sums: Array, residual: Array, wire: Array) -> None:
    """Round up to `BLOCK` sums, with their residual added, to what two bytes hold; in place.

    Args:
        form: the numbers of two bytes.
        sums: shape (n,).
        residual: what earlier roundings lost, and afterwards what this one lost: nothing where it is not finite.
        wire: takes the rounded sums as they travel.
    """
    np.add(residual, sums, out=residual)
    form.encode(residual, wire)
    form.decode(wire, sums)
    np.subtract(residual, sums, out=residual)
    if not math.isfinite(np.dot(residual, residual)):
        residual[~np.isfinite(residual)] = 0


class OwnResiduals:
    """What the roundings of each group and of the total owe, every entry on the rank that rounds it.

    Args:
        place: this rank among the others.
        groups: the subtrees that are rounded.
        length: entries of the vector.
        dtype: type of the sums.
        rounded: returns what a rank rounds of the sum of a group, or of all groups (None), in ranges.
    """

    def __init__(
        self,
        place: Place,
        groups: Sequence[Subtree],
        length: int,
        dtype: DTypeLike,
        rounded: Callable[[Subtree | None, int], list[Range]],
    ) -> None:
        self._length, self._dtype = length, np.dtype(dtype)
        named: dict[str, Subtree | None] = {name_of(number): group for number, group in enumerate(groups)}
        named[TOTAL] = None
        self._own = {
            name: [(start, np.zeros(stop - start, self._dtype)) for start, stop in rounded(group, place.rank)]
            for name, group in named.items()
        }
        self._partitions = {name: Partitions(place, length, partial(rounded, group)) for name, group in named.items()}

    def view(self, name: str, start: int, stop: int) -> Array:
        """Return this rank's residual of some entries of one sum."""
        first, array = next(
            partition for partition in self._own[name] if partition[0] <= start < partition[0] + partition[1].size
        )
        return array[start - first : stop - first]

    @property
    def names(self) -> Sequence[str]:
        """The names of the vectors."""
        return tuple(self._own)

    def deal(self, name: str, dealing: Dealing) -> Iterator[Chunk]:
        """Yield the chunks that this rank takes of a vector. Collective."""
        return self._partitions[name].deal_pieces(self._own[name], self._dtype, dealing)

    def load(self, state: Mapping[str, Array]) -> None:
        """Take the own entries of whole vectors.

        Raises:
            CheckpointError: they are those of another job.
        """
        given = {name: value.shape for name, value in state.items()}
        wanted = dict.fromkeys(self._own, (self._length,))
        if given != wanted:
            raise CheckpointError(
                f"the state of the compression is another's: the file holds {given}, the job needs {wanted}"
            )
        for name, own in self._own.items():
            for start, array in own:
                array[...] = state[name][start : start + array.size]


class CompressedSummation:
    """Adds as `ExactSummation` does, but rounds the sum of each group, and their sum.

    Args:
        addends: the slots to add.
        groups: the subtrees that are rounded, which no slot is larger than.
        form: what to round to.
        residuals: what the roundings owe.
    """

    def __init__(self, addends: Addends, groups: Sequence[Subtree], form: Format, residuals: OwnResiduals) -> None:
        self.one_pass = False
        self._addends, self._form, self._residuals = addends, form, residuals
        self._names = {group: name_of(number) for number, group in enumerate(groups)}
        self._folds = {group: Fold.below(group, addends.subtrees) for group in groups}
        arriving = [subtree for number, sent in enumerate(addends.sent) if number != addends.host for subtree in sent]
        self._rounded_elsewhere = set(groups).intersection(arriving)
        self._steps = leaf_steps((0, len(groups)))
        depth = max(step.slot for step in self._steps)
        self._spare = [aligned_empty(BLOCK, addends.local_vectors[0].dtype) for _ in range(depth)]
        self._wire = form.empty(BLOCK)

    def buffer(self, subtree: Subtree, size: int) -> Array:
        """Return room for the sum of a subtree."""
        if subtree in self._names:
            return self._form.empty(size)
        return aligned_empty(size, self._addends.local_vectors[0].dtype)

    def relays(self, start: int, stop: int) -> Iterator[tuple[Addition | None, Array]]:
        """Yield what makes each sum to be sent. That of a part of a group is not rounded."""
        addends = self._addends
        for subtree in addends.sent[addends.host]:
            fold_plan = Fold.below(subtree, addends.local_subtrees)
            if subtree not in self._names:
                yield relay(fold_plan, addends.local_vectors, slice(start, stop))
                continue
            wire = self._form.empty(stop - start)
            slots = fold_plan.take(addends.local_vectors, slice(start, stop))
            residual = self._residuals.view(self._names[subtree], start, stop)
            yield partial(self._relay, slots, fold_plan.order, residual, wire), wire

    def _relay(self, slots: Sequence[Array], order: Sequence[tuple[int, int]], residual: Array, wire: Array) -> None:
        for start in range(0, wire.size, BLOCK):
            part = slice(start, start + BLOCK)
            blocks = [slot[part] for slot in slots]
            fold_block(blocks, order, blocks[0])
            feed_back(self._form, blocks[0], residual[part], wire[part])

    def part(self, start: int, stop: int, received: Sequence[Sequence[Array]]) -> Sum:
        """Return what sums entries of this rank's partition."""
        slots = self._addends.slots(start, stop, received)
        sums: list[Sum] = []
        for group, fold_plan in self._folds.items():
            chosen = fold_plan.take(slots, slice(None))
            if group in self._rounded_elsewhere:
                sums.append(partial(self._form.decode, chosen[0]))
            else:
                residual = self._residuals.view(self._names[group], start, stop)
                sums.append(partial(self._round, chosen, fold_plan.order, residual))
        return partial(self._sum, sums, self._residuals.view(TOTAL, start, stop))

    def _round(self, slots: Sequence[Array], order: Sequence[tuple[int, int]], residual: Array, out: Array) -> None:
        fold_block(slots, order, out)
        feed_back(self._form, out, residual, self._wire[: out.size])

    def _sum(self, groups: Sequence[Sum], residual: Array, out: Array) -> None:
        """Add the rounded sums of the groups along the tree above them, and round what comes of it."""
        sums = [out, *(spare[: out.size] for spare in self._spare)]
        for step in self._steps:
            groups[step.leaf](sums[step.slot])
            for left, right in step.fold:
                np.add(sums[left], sums[right], out=sums[left])
        feed_back(self._form, out, residual, self._wire[: out.size])


class EncodedTransfer:
    """A transfer of numbers that two bytes hold exactly.

    Args:
        form: their form.
        own: what to send.
        arriving: where to write what comes.
        connect: returns the transfer of both as they travel.
    """

    def __init__(
        self,
        form: Format,
        own: Array,
        arriving: Sequence[Array],
        connect: Callable[[Array, Sequence[Array]], Transfer],
    ) -> None:
        self._form = form
        sent = form.empty(own.size)
        received = [form.empty(array.size) for array in arriving]
        self._out = [(own[part], sent[part]) for part in _blocks(own.size)]
        self._in = [
            (wire[part], array[part])
            for wire, array in zip(received, arriving, strict=True)
            for part in _blocks(array.size)
        ]
        self._transfer = connect(sent, received)

    def start(self) -> None:
        """Encode, and let it go."""
        for values, wire in self._out:
            self._form.encode(values, wire)
        self._transfer.start()

    def wait(self, *, spin: bool) -> None:
        """Return once all has come and is decoded."""
        self._transfer.wait(spin=spin)
        for wire, out in self._in:
            self._form.decode(wire, out)

    def free(self) -> None:
        """Forget the messages."""
        self._transfer.free()


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
