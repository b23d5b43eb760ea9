"""The NumPy model of one rank: shard by shard forward and backward, one exchange, one update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.protocol import Array, Contribution, Exchange
from hpcnn.memory import aligned_empty
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import Network
from hpcnn.optim.optimizer import Optimizer
from hpcnn.training.numpy_model import NumpyModel
from hpcnn.training.replica import LoadShard, NotFiniteError
from hpcnn.training.sums import COUNT, LOSS, PENALTY, STOP, Sums, SumsLayout
from hpcnn.tree import LeafStep, leaf_steps

DROPOUT_STREAM = 4
"""Keeps the draws of a training step apart from all other uses of the job's seed."""


class _Slot:
    """An accumulator: a gradient vector with its views, and its tail."""

    def __init__(self, network: Network, vector: Array, tail: Array) -> None:
        self.vector, self.tail = vector, tail
        self.grads = network.layout.gradient_views(vector)

    def add(self, other: _Slot) -> None:
        np.add(self.vector, other.vector, out=self.vector)
        np.add(self.tail, other.tail, out=self.tail)


class NumpyReplica(NumpyModel):
    """A `NumpyModel` with its optimizer, training on the gradient shards of one rank.

    Args:
        network: the layers.
        loss: the loss, bound to the network's head.
        layout: the sums to keep, with the metrics.
        optimizer: what turns gradients into steps.
        exchange: buffers for the owned shards' gradients, as long as the trainable parameters, and their reduction.
        seed: the job's seed.
        dtype: type of parameters and arithmetic.
        class_weights: weight of each class in the training loss, shape (classes,), or None. As in Keras they weigh
            nothing in evaluation.
    """

    def __init__(
        self,
        network: Network,
        loss: BoundLoss,
        layout: SumsLayout,
        optimizer: Optimizer,
        exchange: Exchange,
        *,
        seed: int,
        dtype: DTypeLike,
        class_weights: Array | None = None,
    ) -> None:
        super().__init__(network, loss, layout, dtype=dtype)
        self._class_weights = None if class_weights is None else np.asarray(class_weights, dtype)
        network.layout.initialize(self.vector, seed)
        self._exchange, self._seed = exchange, seed
        trainable = self.vector[: network.layout.trainable_size]
        self._bound = optimizer.bind(trainable, exchange.vector)
        self._work = _plan(network, exchange.contributions)
        self._gradients = network.layout.gradient_views(exchange.vector)

    # ------------------------------------------------------------------------------------------------------ training

    @np.errstate(all="ignore")  # a run that diverges is told so once, not by warnings on every rank
    def train_step(self, step: int, load: LoadShard, *, factor: float, stop: bool) -> Sums:
        """Do one update on the whole batch; see `Replica`."""
        with self._flush:
            return self._train_step(step, load, factor, stop)

    def _train_step(self, step: int, load: LoadShard, factor: float, stop: bool) -> Sums:
        for slots, leaves in self._work:
            for leaf in leaves:
                self._shard(step, leaf.leaf, load, slots[leaf.slot])
                for left, right in leaf.fold:
                    slots[left].add(slots[right])
        self._exchange.contributions[0].tail[STOP] += stop
        self._exchange.allreduce()
        sums = self._exchange.tail
        if not np.isfinite(sums[LOSS]):
            raise NotFiniteError("the loss", self._first_not_finite(step, load))
        count = float(sums[COUNT])  # NumPy's own float64 would turn float32 arithmetic into buffered float64
        sums[PENALTY] = self._penalize(count)
        if not self._bound.update(self._bound.optimizer.tick(step, factor), count):
            raise NotFiniteError("a gradient", self._first_bad_gradient())
        return sums

    def _shard(self, step: int, shard: int, load: LoadShard, slot: _Slot) -> None:
        x, y = load(shard)
        slot.tail[...] = 0
        if not len(x):
            slot.vector[...] = 0
            return
        self._context.begin(training=True, random_key=(self._seed, DROPOUT_STREAM, step, shard))
        logits, network_backward = self.network.forward(self._params, x, self._context)
        loss, outputs, loss_backward = self._loss(logits, y, self._weights_of(y), self._context)
        slot.tail[COUNT], slot.tail[LOSS] = len(x), loss
        self.layout.add_metrics(slot.tail, outputs, y)
        network_backward(loss_backward(), slot.grads)

    def _weights_of(self, y: Array) -> Array | None:
        if self._class_weights is None:
            return None
        if self._loss.target_kind == "labels":  # the type says nothing: rows may be integers too
            classes = y
        elif y.shape[-1] == 1:
            classes = (y[..., 0] > 0.5).astype(np.intp)
        else:
            classes = np.argmax(y, axis=-1)
        return self._class_weights[classes]

    def _penalize(self, count: float) -> float:
        """Add the penalties' gradient to the gradient sum; return `count` x the penalty."""
        penalty = self.penalty()
        for spec in self.network.layout.penalized:
            weights, gradient = self._params[spec.name], self._gradients[spec.name]
            spare = self._spare[: spec.size].reshape(spec.shape)
            if spec.l2:
                np.add(gradient, np.multiply(weights, 2 * spec.l2 * count, out=spare), out=gradient)
            if spec.l1:
                np.sign(weights, out=spare)
                np.add(gradient, np.multiply(spare, spec.l1 * count, out=spare), out=gradient)
        return penalty * count

    def _first_not_finite(self, step: int, load: LoadShard) -> str | None:
        for _, leaves in self._work:
            for leaf in leaves:
                x, y = load(leaf.leaf)
                if not len(x):
                    continue
                self._context.begin(training=True, random_key=(self._seed, DROPOUT_STREAM, step, leaf.leaf))
                name = self.network.first_not_finite(self._params, x, self._context)
                if name is not None:
                    return f"the first output that is not finite is that of layer {name!r} (shard {leaf.leaf})"
                self._context.begin(training=True, random_key=self._context.random_key)
                logits, _ = self.network.forward(self._params, x, self._context)
                if not np.isfinite(self._loss(logits, y, self._weights_of(y), self._context)[0]):
                    return f"all layers' outputs are finite, the loss itself is not (shard {leaf.leaf})"
        return None

    def _first_bad_gradient(self) -> str | None:
        for name, gradient in self._gradients.items():
            if not np.isfinite(gradient).all():
                return f"the first gradient that is not finite is that of {name!r}"
        return None

    # --------------------------------------------------------------------------------------------------------- state

    def learning_rate(self, step: int, factor: float) -> float:
        """Return the learning rate of `step`."""
        return self._bound.optimizer.tick(step, factor).learning_rate

    def optimizer_state(self) -> dict[str, Array]:
        """Return the optimizer's vectors by name, each over the trainable parameters."""
        return dict(self._bound.state)

    def load_optimizer_state(self, state: Mapping[str, Array]) -> None:
        """Overwrite the optimizer's vectors."""
        self._bound.load_state(state)


def _plan(network: Network, contributions: Sequence[Contribution]) -> list[tuple[list[_Slot], list[LeafStep]]]:
    """Return, for each contribution, its accumulators (the first is the contribution itself) and the leaves to sum."""
    plans = [leaf_steps(contribution.node) for contribution in contributions]
    depth = max(leaf.slot for plan in plans for leaf in plan)
    first = contributions[0]
    spare = [
        _Slot(network, aligned_empty(first.vector.size, first.vector.dtype), np.zeros_like(first.tail))
        for _ in range(depth)
    ]
    return [
        ([_Slot(network, contribution.vector, contribution.tail), *spare], plan)
        for contribution, plan in zip(contributions, plans, strict=True)
    ]
