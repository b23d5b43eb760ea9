"""Passes through a network: node after node forward, and back; with or without keeping what lies between."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from hpcnn.core.tree import fold_rows
from hpcnn.nn.context import Context
from hpcnn.nn.graph import Node
from hpcnn.nn.layer import BatchLayer, BatchRows, BatchSum, MultiInput, Params
from hpcnn.nn.workspace import Array

Ready = Callable[[int], None]
"""``start -> None``: told, layer by layer, that all entries of the gradient vector from `start` on are written."""
T = TypeVar("T")
Asked = BatchSum | BatchRows
"""What a pass may stop for."""
Steps = Generator[Asked, None, T]
"""A pass that stops where it needs something of the whole batch, and goes on once whoever runs it has provided that."""
OWNER = "network"
"""Owner of scratch arrays, together with the name of a layer; no layer can have such a name."""


def as_whole_batch(steps: Steps[T]) -> T:
    """Run a pass whose samples are the whole batch: what it asks for is the sum of its own shards, or its own rows."""
    while True:
        try:
            asked = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(asked, BatchRows):
            np.add(asked.own, 0, out=asked.rows)  # no zero is negative: as where rows are sums of those of all ranks
        else:
            np.copyto(asked.totals, fold_rows(asked.sums))
            asked.done()


class Plan(Protocol):
    """What a pass goes through: see `hpcnn.nn.network.Network`."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The layers in the order in which they are computed."""

    @property
    def passed(self) -> Sequence[Any]:
        """The same layers as they are called."""

    @property
    def segments(self) -> Sequence[range]:
        """The places that are computed with all that the pass back needs of them in memory."""

    @property
    def learns(self) -> Sequence[bool]:
        """Whether a node or one below it has something to learn; the last one is the input."""

    @property
    def starts(self) -> Sequence[int | None]:
        """Where in the gradient vector each node's parameters begin."""


class NetworkPass:
    """One pass through a network, forward and, once at most, back.

    Where the network has several segments, only what crosses from one to a later one is kept. The others lie in the
    same memory, one after the other; the pass back computes each again before it goes through it.
    """

    def __init__(self, network: Plan, params: Params, x: Array, ctx: Context) -> None:
        self._network, self._params, self._x, self._ctx = network, params, x, ctx
        nodes = len(network.nodes)
        self._outputs: list[Array] = [x] * (nodes + 1)  # the last one, -1, is the input
        self._backwards: list[Any] = [None] * nodes
        self._totals: dict[int, Array] = {}
        self._draws: list[Any] = []
        self._reuses = len(network.segments) > 1

    def forward(self) -> Steps[Array]:
        """Return the logits."""
        for segment in self._network.segments:
            self._draws.append(self._ctx.arithmetic.draws(self._ctx))
            yield from self._compute(segment)
            self._keep(segment)
        return self._outputs[-2]

    def _compute(self, segment: range, *, again: bool = False) -> Steps[None]:
        network, ctx = self._network, self._ctx
        if self._reuses:
            ctx.reuse_memory()
        for place in segment:
            node, layer = network.nodes[place], network.passed[place]
            given = [self._outputs[source] for source in node.sources]
            own = {name: self._params[other] for name, other in node.shared.items()} if node.shared else self._params
            if isinstance(layer, BatchLayer) and layer.collects(ctx):
                y, backward = yield from self._batch_layer(place, layer, own, given[0], again=again)
            else:
                y, backward = layer.forward(own, given if isinstance(node.layer, MultiInput) else given[0], ctx)
            self._outputs[place], self._backwards[place] = y, backward
        ctx.keep_memory()

    def _batch_layer(
        self, place: int, layer: BatchLayer, params: Params, x: Array, *, again: bool
    ) -> Steps[tuple[Array, Any]]:
        ctx = self._ctx
        sums, resume = layer.begin(params, x, ctx)
        if again:
            return resume(self._totals[place])
        totals = self._totals[place] = self._own_scratch(place, "totals", sums.shape[1:], np.float64)
        new_state = ctx.new_state  # that of this pass, which may be recorded beside others

        def keep_state() -> None:
            for name, values in layer.new_state(params, sums, totals).items():
                into = new_state[name]
                into[...] = values if into.ndim == values.ndim else values[0]

        yield BatchSum(sums, totals, layer.synchronized, keep_state if new_state else None)
        return resume(totals)

    def _keep(self, segment: range) -> None:
        """Copy what later segments take, and the logits, out of the memory that others reuse."""
        if not self._reuses:
            return
        later = {source for node in self._network.nodes[segment.stop :] for source in node.sources}
        last = len(self._network.nodes) - 1  # read when the pass back is done, too: by metrics
        for place in (later | {last}) & set(segment):
            y = self._outputs[place]
            kept = self._own_scratch(place, "kept", y.shape, y.dtype)
            self._outputs[place] = self._ctx.arithmetic.copy(y, kept)

    def _own_scratch(self, place: int, use: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return scratch of the network itself, which is kept whatever else is reused."""
        name = self._network.nodes[place].layer.name if place >= 0 else "input"
        with self._ctx.kept():
            return self._ctx.scratch((OWNER, name), use, shape, dtype)

    # ------------------------------------------------------------------------------------------------------ and back

    def __call__(
        self, dlogits: Array, grads: Params, ready: Ready | None = None, *, need_dx: bool = False
    ) -> Array | None:
        """Write every trainable parameter's gradient; dlogits may be overwritten. With `need_dx`, return that of x."""
        return as_whole_batch(self.steps(dlogits, grads, ready, need_dx=need_dx))

    def steps(
        self, dlogits: Array, grads: Params, ready: Ready | None = None, *, need_dx: bool = False
    ) -> Steps[Array | None]:
        """Do the same, stopping where a sum over the whole batch is needed."""
        network, ctx = self._network, self._ctx
        # The gradient of each node's output as far as it is known; each array belongs to its place alone.
        found: list[Array | None] = [None] * (len(network.nodes) + 1)
        found[-2] = dlogits
        for number in reversed(range(len(network.segments))):
            segment = network.segments[number]
            if not (need_dx or any(network.learns[place] for place in segment)):
                break
            if segment is not network.segments[-1]:
                ctx.arithmetic.draw_from(ctx, self._draws[number])
                yield from self._compute(segment, again=True)
            if self._reuses:
                ctx.reuse_memory(anew=False)
            for place in reversed(segment):
                if need_dx or network.learns[place]:
                    yield from self._back(place, found, grads, ready, need_dx=need_dx)
            ctx.keep_memory()
            self._keep_gradients(segment, found)
        return found[-1]

    def _back(
        self, place: int, found: list[Array | None], grads: Params, ready: Ready | None, *, need_dx: bool
    ) -> Steps[None]:
        network, node = self._network, self._network.nodes[place]
        dy, found[place] = found[place], None
        assert dy is not None, f"no layer returned the gradient of {node.layer.title}"
        needed = [need_dx or network.learns[source] for source in node.sources]
        own = self._shared_grads(place, grads) if node.shared else grads
        for source, dx in zip(node.sources, (yield from self._dx(place, dy, own, needed)), strict=True):
            so_far = found[source]
            if dx is None or so_far is None:
                found[source] = so_far if dx is None else dx
            else:
                found[source] = self._ctx.arithmetic.add(so_far, dx, self._sum_of_gradients(source, so_far))
        if node.shared:
            self._add_shared(place, own, grads)
        start = network.starts[place]
        if ready is not None and start is not None:
            ready(start)

    def _sum_of_gradients(self, source: int, so_far: Array) -> Array:
        """Return where the sum of two gradients goes: into the first, unless it is an array of a layer of one's own."""
        if so_far.flags.writeable and so_far.flags.c_contiguous:
            return so_far
        return self._own_scratch(source, "gradient", so_far.shape, so_far.dtype)

    def _dx(self, place: int, dy: Array, grads: Params, needed: list[bool]) -> Steps[Sequence[Array | None]]:
        backward = self._backwards[place]
        if isinstance(self._network.nodes[place].layer, MultiInput):
            several: Sequence[Array | None] = backward(dy, grads, need_dx=needed)
            return several
        if not hasattr(backward, "begin"):
            return [backward(dy, grads, need_dx=needed[0])]
        sums, resume = backward.begin(dy, grads, need_dx=needed[0])
        if sums is None:
            return [resume(None)]
        totals = self._own_scratch(place, "gradient totals", sums.shape[1:], np.float64)
        yield BatchSum(sums, totals)
        return [resume(totals)]

    def _keep_gradients(self, segment: range, found: list[Array | None]) -> None:
        """Copy the gradients that earlier segments are to be given out of the memory that those reuse."""
        if not self._reuses:
            return
        for place in range(-1, segment.start):
            gradient = found[place]
            if gradient is not None:
                kept = self._own_scratch(place, "gradient", gradient.shape, gradient.dtype)
                if gradient is not kept:
                    found[place] = self._ctx.arithmetic.copy(gradient, kept)

    def _shared_grads(self, place: int, grads: Params) -> Mapping[str, Array]:
        """Return memory for the gradients of a node whose parameters are used at several places, by its own names."""
        shared = self._network.nodes[place].shared.items()
        return {
            name: self._own_scratch(place, f"gradient of {name}", into.shape, into.dtype)
            for name, into in ((name, grads[other]) for name, other in shared if other in grads)
        }

    def _add_shared(self, place: int, own: Params, grads: Params) -> None:
        """Add them to what later places made of the same parameters, which the pass back has met before."""
        nodes: Sequence[Node] = self._network.nodes
        later = {other for node in nodes[place + 1 :] for other in node.shared.values()}
        for name, gradient in own.items():
            into = grads[nodes[place].shared[name]]
            if nodes[place].shared[name] in later:
                self._ctx.arithmetic.add(into, gradient, into)
            else:
                np.copyto(into, gradient)
