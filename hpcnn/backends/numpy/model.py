"""The model in NumPy: the passes of a `Network` of hpcnn's own layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpcnn.backends.numpy.arithmetics import eager, shard_arithmetic, use_core_threads
from hpcnn.comm.protocol import Array, Contribution
from hpcnn.nn.context import Context
from hpcnn.nn.matmul import Matmul, matmul_on
from hpcnn.nn.network import Network
from hpcnn.nn.passes import Ready, Steps
from hpcnn.training.batch_sums import AddRows
from hpcnn.training.gradient_pass import WeightsOf
from hpcnn.training.model import (
    Accumulator,
    AnyLoss,
    BackwardSteps,
    LossSums,
    Model,
    ShardBackward,
    ShardPlace,
)
from hpcnn.training.step_stats import StatsLayout

if TYPE_CHECKING:
    from hpcnn.backends.numpy.batch_pass import BatchPass  # loads the compiled core


class NumpyModel(Model):
    """A `Network` with its parameters in one flat vector, its loss and its metrics; see `Model`."""

    network: Network

    def __init__(
        self, network: Network, loss: AnyLoss, layout: StatsLayout, vector: Array, arithmetic: str = "numpy"
    ) -> None:
        super().__init__(network, loss, layout, vector, arithmetic)
        self._native = arithmetic == "native"
        self._matmul: Matmul = np.matmul
        self._context = self._new_context()
        self._contexts: list[Context] = []
        """Those of shards that are computed in step."""

    def _new_context(self) -> Context:
        return Context(matmul=self._matmul, arithmetic=eager("native" if self._native else "numpy"))

    def use_threads(self, threads: int) -> None:
        """Compute on that number of threads from now on. The bits stay as they are."""
        if self._native:
            use_core_threads(threads)
        else:
            self._matmul = matmul_on(threads)
            self._context, self._contexts = self._new_context(), []

    @property
    def scratch_bytes(self) -> int:
        """Bytes of scratch that passes have taken so far, but for those of a `batch_pass`."""
        return self._context.nbytes + sum(context.nbytes for context in self._contexts)

    def batch_pass(
        self, contributions: Sequence[Contribution], *, seed: int, weights_of: WeightsOf, add: AddRows
    ) -> BatchPass | None:
        """Return the pass of the compiled core, if all layers are of those that it knows."""
        if not self._native or not self.network.recordable:
            return None
        from hpcnn.backends.numpy.batch_pass import BatchPass

        return BatchPass(self, self.network, contributions, seed=seed, weights_of=weights_of, add=add)

    @property
    def synchronized(self) -> bool:
        """Whether a layer needs sums over the whole batch, or the loss compares its samples with each other."""
        return self.network.synchronized or self.loss.synchronized

    def steps(
        self,
        place: ShardPlace,
        key: tuple[int, ...],
        x: Array,
        y: Array,
        weights: Array | None,
        new_state: Array | None,
    ) -> Steps[tuple[LossSums, Array, BackwardSteps]]:
        """Compute a shard, layer by layer, in memory of its own."""
        while len(self._contexts) <= place.number:
            self._contexts.append(self._new_context())
        context = self._contexts[place.number]
        self._begin(context, key, new_state, (place.first, place.samples))
        logits, network_backward = yield from self.network.steps(self.params, x, context)
        targets = self.loss.fit_targets(logits, y, context)
        terms, outputs, loss_backward = yield from self.loss.steps(logits, targets, weights, context)
        loss = self.loss.sums(terms, context)

        def backward(into: Accumulator) -> Steps[None]:
            yield from network_backward.steps(loss_backward(), into.grads)

        return loss, outputs, backward

    def forward(
        self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None, new_state: Array | None
    ) -> tuple[LossSums, Array, ShardBackward]:
        """Compute a shard, layer by layer."""
        self._begin(self._context, key, new_state)
        logits, network_backward = self.network.forward(self.params, x, self._context)
        loss, outputs, loss_backward = self.loss(logits, y, weights, self._context)

        def backward(into: Accumulator, ready: Ready | None) -> None:
            network_backward(loss_backward(), into.grads, ready)

        return loss, outputs, backward

    def evaluate(self, x: Array, y: Array, weights: Array | None) -> tuple[LossSums, Array]:
        """Return the loss summed over the samples, and the outputs."""
        self._context.begin(training=False)
        logits, _ = self.network.forward(self.params, x, self._context)
        loss, outputs, _ = self.loss(logits, y, weights, self._context)
        return loss, outputs

    def predict(self, x: Array) -> Array:
        """Return the outputs."""
        self._context.begin(training=False)
        logits, _ = self.network.forward(self.params, x, self._context)
        return self.network.head_forward(logits, self._context)

    def first_not_finite(self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None) -> str | None:
        """Return the first layer whose output is not finite, or that the loss is not."""
        new_state = np.empty(sum(spec.size for spec in self.network.state))
        self._begin(self._context, key, new_state)
        name = self.network.first_not_finite(self.params, x, self._context)
        if name is not None:
            return f"the first output that is not finite is that of layer {name!r}"
        self._begin(self._context, key, new_state)
        logits, _ = self.network.forward(self.params, x, self._context)
        if np.isfinite(self.loss(logits, y, weights, self._context)[0]).all():
            return None
        return "all layers' outputs are finite, the loss itself is not"

    def _begin(
        self, context: Context, key: tuple[int, ...], new_state: Array | None, among: tuple[int, int] | None = None
    ) -> None:
        """Begin a pass in training; layers write their state to `new_state`, one parameter after the other."""
        views, position = {}, 0
        if new_state is not None:
            for spec in self.network.state:
                views[spec.name] = new_state[position : position + spec.size].reshape(spec.shape)
                position += spec.size
        context.begin(training=True, random_key=key, new_state=views, among=among)
        if self._native:
            context.arithmetic = shard_arithmetic(key)
