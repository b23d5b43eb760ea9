"""What a model is, whatever computes it: parameters in one flat vector, and passes over samples that return stats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import numpy as np

from hpcnn.comm.protocol import Array, Contribution
from hpcnn.data.reduction import totals
from hpcnn.nn.context import Context
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.outputs import Output
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.nn.passes import Ready, Steps
from hpcnn.nn.several_losses import BoundLosses
from hpcnn.optim import arithmetics
from hpcnn.storage.lazy import LazyArray
from hpcnn.system.denormals import FlushDenormals
from hpcnn.training.batch_sums import AddRows
from hpcnn.training.gradient_pass import GradientPass, WeightsOf
from hpcnn.training.penalty import penalty
from hpcnn.training.step_stats import COUNT, WEIGHT, Stats, StatsLayout


class BuiltNetwork(Protocol):
    """A network, as far as everything but its own backend knows it."""

    @property
    def layout(self) -> ParamLayout:
        """Where each parameter is stored in the vector."""

    @property
    def state(self) -> Sequence[ParamSpec]:
        """The parameters that training changes without a gradient, as the averages of batch normalisation."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the outputs for one sample."""

    @property
    def head(self) -> str:
        """Name of the last activation, if it stands apart from the layers."""

    @property
    def ending(self) -> str | None:
        """Name of the last activation, wherever it is; None if that is not known."""

    @property
    def outputs(self) -> Sequence[Output]:
        """The parts of the outputs, where they are a row of several."""


AnyLoss = BoundLoss | BoundLosses
LossSums = float | Array
"""The sum of all losses; of several outputs with the sum of each behind it."""


class Accumulator:
    """A gradient vector with its views by parameter, and the stats beside it."""

    def __init__(self, params: ParamLayout, vector: Array, stats: Array) -> None:
        self.vector, self.stats = vector, stats
        self.grads = params.gradient_views(vector)


class ShardPlace(NamedTuple):
    """Where a shard is that is computed in step with others."""

    number: int
    """Among the rank's own."""
    first: int
    """Place in the batch of its first sample."""
    samples: int
    """Those of the batch, where the loss compares samples with each other; else 0."""


ShardBackward = Callable[[Accumulator, Ready | None], None]
"""``(into, ready) -> None``: overwrites the gradient in `into`, and tells from where on it is written."""


BackwardSteps = Callable[[Accumulator], Steps[None]]
"""``into -> pass``: the same, stopping where something of the whole batch is needed."""


class Model(ABC):
    """A network with its parameters in one flat vector, its loss and its metrics. One subclass for each backend.

    A subclass says how to compute. Steps, sums over ranks, checkpoints and commands are shared.
    """

    def __init__(
        self, network: BuiltNetwork, loss: AnyLoss, layout: StatsLayout, vector: Array, arithmetic: str = "numpy"
    ) -> None:
        self.network, self.loss, self.layout, self.vector = network, loss, layout, vector
        self.arithmetic = arithmetic
        """What computes wherever hpcnn itself does; see ``train.arithmetic`` of a job."""
        self.params = network.layout.views(vector)
        """Each parameter, as a view of the vector."""
        self._scratch = Context()
        self._flush = FlushDenormals(flush=arithmetic == "numpy")
        self._of_penalty = arithmetics.arithmetic(arithmetic)
        self._total = totals(None, arithmetic)

    # ---------------------------------------------------------------------------------------- what subclasses compute

    @abstractmethod
    def use_threads(self, threads: int) -> None:
        """Compute on that number of threads from now on, if that leaves the bits as they are."""

    @abstractmethod
    def forward(
        self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None, new_state: Array | None
    ) -> tuple[LossSums, Array, ShardBackward]:
        """Compute a shard in training mode: inputs `x` (n, *input_shape), targets `y`, `weights` of the samples (n,).

        `key` alone decides all random draws. `new_state`, float64, is to be overwritten by what the shard makes of the
        network's state; None without state. Returns loss summed over the samples, outputs, backward pass.
        """

    @abstractmethod
    def evaluate(self, x: Array, y: Array, weights: Array | None) -> tuple[LossSums, Array]:
        """Return the loss summed over the samples, times their `weights` (n,), and the outputs."""

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """Return the outputs, shape (n, *output_shape), valid until the next call."""

    @abstractmethod
    def first_not_finite(self, key: tuple[int, ...], x: Array, y: Array, weights: Array | None) -> str | None:
        """Return what is not finite first in the pass of a shard, in words, or None. May be slow."""

    def unchanged_weights(self) -> AbstractContextManager[None]:
        """Within what this returns all passes are of the same weights: a model may compute with a copy of them."""
        return nullcontext()

    def batch_pass(
        self, contributions: Sequence[Contribution], *, seed: int, weights_of: WeightsOf, add: AddRows
    ) -> GradientPass | None:
        """Return what computes all shards of a rank at once; None: they are computed one by one.

        `add` sums rows over the whole batch, where the pass needs that.
        """
        return None

    @property
    def synchronized(self) -> bool:
        """Whether passes in training need sums or rows of the whole batch, so that shards must be computed in step."""
        return False

    def steps(
        self,
        place: ShardPlace,
        key: tuple[int, ...],
        x: Array,
        y: Array,
        weights: Array | None,
        new_state: Array | None,
    ) -> Steps[tuple[LossSums, Array, BackwardSteps]]:
        """Do what `forward` does, stopping where something of the whole batch is needed."""
        raise NotImplementedError(f"{type(self).__name__} computes each shard by itself")

    # -------------------------------------------------------------------------------------------------------- passes

    def shard_steps(
        self,
        place: ShardPlace,
        key: tuple[int, ...],
        x: Array,
        y: Array,
        weights: Array | None,
        stats: Array,
        of_samples: Array | None = None,
    ) -> Steps[BackwardSteps]:
        """Do what `forward_shard` does, stopping where something of the whole batch is needed."""
        stats[...] = 0
        new_state = stats[self.layout.size :] if self.network.state else None
        loss, outputs, backward = yield from self.steps(place, key, x, y, weights, new_state)
        self._write(stats, loss, outputs, y, new_state, of_samples)
        return backward

    def forward_shard(
        self,
        key: tuple[int, ...],
        x: Array,
        y: Array,
        weights: Array | None,
        stats: Array,
        of_samples: Array | None = None,
    ) -> ShardBackward:
        """Compute a shard, write its count, loss, metrics and new state to `stats`, and return the backward pass.

        `weights` are those of the samples in the loss, `of_samples` those without the weights of their classes.
        """
        new_state = stats[self.layout.size :] if self.network.state else None
        loss, outputs, backward = self.forward(key, x, y, weights, new_state)
        self._write(stats, loss, outputs, y, new_state, of_samples)
        return backward

    def _write(
        self,
        stats: Array,
        loss: LossSums,
        outputs: Array,
        y: Array,
        new_state: Array | None,
        weights: Array | None,
    ) -> None:
        stats[COUNT], stats[WEIGHT] = len(y), self.total_weight(len(y), weights)
        self.layout.set_losses(stats, loss)
        if len(y):
            self.layout.add_metrics(stats, outputs, y, weights)
        if new_state is not None:
            np.multiply(new_state, len(y), out=new_state)

    @np.errstate(all="ignore")  # what is not finite shows in the values
    def eval_piece(
        self,
        x: Array,
        y: Array,
        weights: Array | None = None,
        keep: Callable[[Array, Array, Array | None], None] | None = None,
    ) -> Stats:
        """Return the stats of one piece of samples, without a reduction.

        `weights` are those of the samples, (n,). `keep` is given outputs, targets and weights.
        """
        stats = self.layout.zeros()
        with self._flush:
            loss, outputs = self.evaluate(x, y, weights)
            self._write(stats, loss, outputs, y, None, weights)
            if keep is not None:
                keep(outputs, y, weights)
        return stats

    def total_weight(self, samples: int, weights: Array | None) -> float:
        """Return the sum of the weights of so many samples; None: each weighs 1."""
        if weights is None:
            return samples
        return float(self._total(weights.astype(np.float64, copy=False)))

    @np.errstate(all="ignore")
    def predict_piece(self, x: Array) -> Array:
        """Return the outputs, shape (n, *output_shape), valid until the next call."""
        with self._flush:
            return self.predict(x)

    @np.errstate(all="ignore")
    def penalty(self) -> float:
        """Return the sum of the L1 and L2 penalties of the weights as they are, which the loss includes."""
        layout = self.network.layout
        longest = max((spec.size for spec in layout.penalized), default=0)
        spare = self._scratch.scratch("penalties", "spare", (longest,), self.vector.dtype)
        return penalty(layout, self.params, spare, self._of_penalty)

    # ------------------------------------------------------------------------------------------------------- weights

    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        return self.network.layout.state_dict(self.vector)

    def lazy_weights(self) -> dict[str, LazyArray]:
        """Return the parameters by name, as they are when they are fetched."""
        return {name: LazyArray.of(view) for name, view in self.params.items()}

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters by arrays of the same names and shapes. In training, `Replica` does this."""
        self.network.layout.load_state_dict(self.vector, weights)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights."""
        return self.network.layout.fingerprint(self.vector)
