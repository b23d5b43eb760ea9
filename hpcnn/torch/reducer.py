"""The sum of gradients over the ranks, along the tree, begun while the backward pass computes the rest of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from hpcnn.comm.protocol import Array
from hpcnn.comm.tensors.call_matching import Call, call_of
from hpcnn.comm.tensors.groups import channel_of
from hpcnn.comm.tensors.tensor_group import GRADIENTS, TensorGroup
from hpcnn.comm.tensors.world import mpi_threads_supported
from hpcnn.torch.compression import Compression, TensorCompressor
from hpcnn.torch.gradient_vector import GradientVector, wire_type
from hpcnn.torch.pending import settle

MOST_BUCKETS, SMALLEST_BUCKET = 8, 2**19
"""Bytes below which a bucket is not worth a message of its own."""
OVERLAP_PAYS = 2**20
"""Bytes of gradients from which on it is worth to send them while the rest is computed."""


class Reducer:
    """Sums the gradients of some parameters over the ranks of a group.

    A step is `begin`, `put` for each gradient that a backward pass has computed, and `finish`.

    Args:
        parameters: in the order in which the model uses them, of any types.
        group: the ranks.
        detail: what must be the same on all ranks beside shapes and types.
        names: of the parameters, for messages.
        compression: how sums are rounded that travel between hosts.
        bucket: bytes that travel while the rest is computed; 0: all at the end; None: as it pays.
        extra: numbers that travel with the gradients of a step, beside the weight.
    """

    def __init__(
        self,
        parameters: Sequence[torch.nn.Parameter],
        group: TensorGroup,
        *,
        detail: tuple[object, ...] = (),
        names: Sequence[str] = (),
        compression: TensorCompressor = Compression.none,
        bucket: int | None = None,
        extra: int = 0,
    ) -> None:
        self._group = group
        known = names or [""] * len(parameters)
        kinds = [wire_type(each, name) for each, name in zip(parameters, known, strict=True)]
        specs = tuple((tuple(parameter.shape), kind) for parameter, kind in zip(parameters, kinds, strict=True))
        self._call: Call = call_of(GRADIENTS, specs, *detail, *filter(None, [compression.name]))
        group.run(self._call, lambda: None)  # before memory is laid out for other shapes
        size = sum(kind.itemsize * parameter.numel() for parameter, kind in zip(parameters, kinds, strict=True))
        bucket = self._bucket(size, bucket) if len(set(kinds)) == 1 else 0
        comm = channel_of(group) if bucket else group.comm
        self._vectors: list[GradientVector] = []
        self._places: dict[int, tuple[GradientVector, int]] = {}
        for kind in dict.fromkeys(kinds):
            numbers = [number for number, own in enumerate(kinds) if own == kind]
            vector = GradientVector(
                [parameters[n] for n in numbers], kind, comm, stats=1 + extra, bucket=bucket,
                compression=compression.between_hosts(comm.hosts),
            )  # fmt: skip
            self._vectors.append(vector)
            self._places |= {number: (vector, place) for place, number in enumerate(numbers)}
        self.overlap = self._vectors[0].exchange.overlap
        """Whether gradients travel while the rest is computed."""
        self.begun = False
        self._weight = 0.0
        group.stand_ins[self._call] = self

    def _bucket(self, size: int, asked: int | None) -> int:
        comm = self._group.comm
        if comm.size == 1 or not mpi_threads_supported():
            return 0
        if asked is None:
            apart = comm.hosts > 1 and size >= OVERLAP_PAYS
            return max(SMALLEST_BUCKET, size // MOST_BUCKETS) if apart else 0
        return asked if size >= 2 * asked else 0

    def begin(self, weight: float, fill: Callable[[Array], None] | None = None) -> None:
        """Begin a step.

        Args:
            weight: multiplies this rank's gradients.
            fill: writes this rank's extra numbers.
        """
        settle()
        self.begun, self._weight = True, weight
        for vector in self._vectors:
            stats = vector.exchange.contributions[0].stats
            stats[0] = weight
            if fill is not None:
                fill(stats[1:])
            vector.begin()
        if self.overlap:
            self._group.run(self._call, lambda: None)
            self._vectors[0].exchange.start(self._vectors[0].step)

    def put(self, number: int) -> None:
        """Take the gradient of the parameter of that number."""
        vector, place = self._places[number]
        vector.put(place, self._weight)

    def finish(self, factor_of: Callable[[float], float]) -> Array:
        """Give each parameter the sum of its gradients over all ranks, and return the sums of the extra numbers.

        Args:
            factor_of: what multiplies the sums, given the sum of the weights.
        """
        for vector in self._vectors:
            vector.complete(self._weight)
        self._sum()
        self.begun = False
        total, *_ = stats = self._vectors[0].exchange.stats
        for vector in self._vectors:
            vector.give(factor_of(float(total)))
        return stats[1:]

    def _sum(self) -> None:
        if self.overlap:
            self._vectors[0].exchange.finish()
            return

        def body() -> None:
            for vector in self._vectors:
                vector.exchange.met = True  # when they made the same call
                vector.exchange.allreduce()

        self._group.run(self._call, body)

    def prepare(self) -> None:
        """Have nothing but zeros to contribute."""
        for vector in self._vectors:
            vector.clear()

    def run(self) -> None:
        """Take part in a step of the others, which they have begun."""
        for vector in self._vectors:
            if self.overlap:
                vector.exchange.start(vector.step)
                vector.exchange.finish()
            else:
                vector.exchange.met = True
                vector.exchange.allreduce()
