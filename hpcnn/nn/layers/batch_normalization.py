"""Batch normalisation: over all samples of the batch, or over those of each gradient shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.arithmetic import BatchNormBackward
from hpcnn.nn.context import Context
from hpcnn.nn.initializers import ones, zeros
from hpcnn.nn.layer import Backward, BatchLayer, Params, Resume, Shape
from hpcnn.nn.params import ParamSpec
from hpcnn.nn.workspace import Array

STATISTICS = ("batch", "shard")


@dataclass(frozen=True)
class BatchNormalization(BatchLayer):
    """y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance of each channel, the last axis.

    In training they are those of all samples and positions of the batch, or of each gradient shard; else, and in a
    frozen layer, they are moving averages. Source: Ioffe and Szegedy, 2015.
    """

    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    statistics: str = "batch"
    trainable: bool = True

    relu: ClassVar[bool] = False
    """Whether relu follows in the same pass."""

    def __post_init__(self) -> None:
        if not 0 <= self.momentum <= 1:
            raise ModelError(f"{self.title}: momentum must be between 0 and 1, but is {self.momentum}")
        if not self.epsilon > 0:
            raise ModelError(f"{self.title}: epsilon must be above 0, but is {self.epsilon}")
        if self.statistics not in STATISTICS:
            raise ModelError(f"{self.title}: statistics must be 'batch' or 'shard', but is {self.statistics!r}")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `input_shape`."""
        if not input_shape:
            raise ModelError(
                f"{self.title} needs inputs with at least one axis, but each sample is a single number (shape ())"
            )
        return input_shape

    def ending(self, before: str | None) -> str | None:
        """Return "linear"."""
        return "linear"

    def parameters(self, input_shape: Shape) -> Sequence[ParamSpec]:
        """Return gamma and beta, those that there are, and the moving averages: (channels,) each."""
        shape, state = input_shape[-1:], self.trainable
        specs = []
        if self.scale:
            specs.append(ParamSpec(f"{self.name}/gamma", shape, ones, self.trainable))
        if self.center:
            specs.append(ParamSpec(f"{self.name}/beta", shape, zeros, self.trainable))
        specs.append(ParamSpec(f"{self.name}/moving_mean", shape, zeros, trainable=False, state=state))
        specs.append(ParamSpec(f"{self.name}/moving_variance", shape, ones, trainable=False, state=state))
        return specs

    @property
    def synchronized(self) -> bool:
        """Whether a pass in training needs the sums of other ranks: for the statistics of the whole batch."""
        return self.statistics == "batch" and self.trainable

    def collects(self, ctx: Context) -> bool:
        """Return whether the pass computes mean and variance: in training, of a layer that is not frozen."""
        return ctx.training and self.trainable

    def begin(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Resume]:
        """Return count, sum (x - moving mean) and sum (x - moving mean)^2 for each shard, and the rest of the pass."""
        rows, shift = x.reshape(-1, x.shape[-1]), params[f"{self.name}/moving_mean"]
        sums = ctx.arithmetic.batch_sums(ctx, self.name, rows, shift)

        def resume(totals: Array) -> tuple[Array, _BatchBackward]:
            used = totals[None] if self.synchronized else sums
            gamma, beta = params.get(f"{self.name}/gamma"), params.get(f"{self.name}/beta")
            y, pull = ctx.arithmetic.batch_norm(
                ctx, self.name, rows, used, shift, gamma, beta, self.epsilon, relu=self.relu
            )
            return y.reshape(x.shape), _BatchBackward(self, pull)

        return sums, resume

    def new_state(self, params: Params, sums: Array, totals: Array) -> Mapping[str, Array]:
        """Return the moving averages with the shard's mean and variance in them; of a shard without samples, as before.

        The variance is that of the samples at hand, as in Keras: divided by their number, not by one less.
        """
        used = totals[None] if self.synchronized else sums
        names = [f"{self.name}/{name}" for name in ("moving_mean", "moving_variance")]
        mean, variance = (np.asarray(params[name], np.float64) for name in names)
        channels = len(mean)
        shares = used[:, 1:] / np.maximum(used[:, :1], 1)
        offset, square = shares[:, :channels], shares[:, channels:]
        found = mean + offset, np.maximum(square - offset * offset, 0)
        new = {}
        for name, old, value in zip(names, (mean, variance), found, strict=True):
            moved = np.where(used[:, :1] > 0, old * self.momentum + value * (1 - self.momentum), old)
            new[name] = np.broadcast_to(moved, (len(sums), channels))
        return new

    def forward_alone(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y by the moving averages."""
        rows = x.reshape(-1, x.shape[-1])
        gamma, beta, mean, variance = (f"{self.name}/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance"))
        y, norm_backward = ctx.arithmetic.fixed_norm(
            ctx, self.name, rows, params[mean], params[variance], params.get(gamma), params.get(beta), self.epsilon,
            relu=self.relu,
        )  # fmt: skip

        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = norm_backward(dy.reshape(rows.shape), grads.get(gamma), grads.get(beta), need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(x.shape), backward


@dataclass(frozen=True)
class _BatchBackward:
    """See `hpcnn.nn.layer.BatchBackward`."""

    layer: BatchNormalization
    pull: BatchNormBackward

    def begin(
        self, dy: Array, grads: Params, *, need_dx: bool = True
    ) -> tuple[Array | None, Callable[[Array | None], Array | None]]:
        rows, name = dy.reshape(-1, dy.shape[-1]), self.layer.name
        sums = self.pull.sums(rows, grads.get(f"{name}/gamma"), grads.get(f"{name}/beta"), need_dx=need_dx)
        synchronized = need_dx and self.layer.synchronized

        def resume(totals: Array | None) -> Array | None:
            if not need_dx:
                return None
            if not synchronized:
                return self.pull.dx(rows, sums).reshape(dy.shape)
            assert totals is not None, "the sums of all ranks are missing"
            return self.pull.dx(rows, totals[None]).reshape(dy.shape)

        return sums if synchronized else None, resume
