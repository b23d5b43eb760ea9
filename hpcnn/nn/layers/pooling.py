"""Pooling over one to three spatial axes, channels last."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.arithmetic import Pull
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape, without_parameters
from hpcnn.nn.layers.spatial import check_numbers, for_each_axis, numbers, spatial_axes, without_softmax
from hpcnn.nn.pool_windows import Three, Windows
from hpcnn.nn.workspace import Array

PADDINGS = ("valid", "same")


@dataclass(frozen=True)
class _Pooling(Layer):
    """A layer that makes one number of each window, channel by channel."""

    def ending(self, before: str | None) -> str | None:
        """Return `before`, unless it is a softmax: what is pooled need not sum to 1."""
        return without_softmax(before)

    @abstractmethod
    def _windows(self, input_shape: Shape) -> Windows: ...

    @abstractmethod
    def _pool(self, ctx: Context, x: Array, windows: Windows) -> tuple[Array, Pull]: ...

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y in scratch."""
        windows = self._windows(x.shape[1:])
        y, pull = self._pool(ctx, x.reshape(len(x), *windows.inputs, x.shape[-1]), windows)
        return y.reshape(len(x), *self.output_shape(x.shape[1:])), without_parameters(
            lambda dy: pull(dy.reshape(y.shape)).reshape(x.shape)
        )


@dataclass(frozen=True)
class _WindowPooling(_Pooling):
    """Pooling over windows of a given size."""

    pool_size: int | Sequence[int] = 2
    strides: int | Sequence[int] | None = None
    padding: str = "valid"

    def __post_init__(self) -> None:
        for what in ("pool_size", "strides"):
            value = numbers(getattr(self, what))
            object.__setattr__(self, what, value)
            if value is not None:
                check_numbers(self, what, value, 1)
        if self.padding not in PADDINGS:
            raise ModelError(f'{self.title}: padding must be "valid" or "same", but is {self.padding!r}')

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the number of windows along each spatial axis, and the channels."""
        windows = self._windows(input_shape)
        return (*windows.outputs[4 - len(input_shape) :], input_shape[-1])

    def _windows(self, input_shape: Shape) -> Windows:
        axes = spatial_axes(self, input_shape)
        size = for_each_axis(self, "pool_size", self.pool_size, axes)
        strides = self.pool_size if self.strides is None else self.strides
        step = for_each_axis(self, "strides", strides, axes)
        if self.padding == "valid" and any(window > length for window, length in zip(size, axes, strict=True)):
            raise ModelError(
                f"{self.title}: windows of {size} don't fit into samples of shape {input_shape}. Choose a smaller "
                'pool_size, or padding = "same".'
            )
        outputs, before = [], []
        for length, window, stride in zip(axes, size, step, strict=True):
            if self.padding == "valid":
                outputs.append((length - window) // stride + 1)
                before.append(0)
            else:
                outputs.append(-(-length // stride))
                before.append(max(0, (outputs[-1] - 1) * stride + window - length) // 2)
        return Windows(_three(axes, 1), _three(outputs, 1), _three(size, 1), _three(step, 1), _three(before, 0))


@dataclass(frozen=True)
class _GlobalPooling(_Pooling):
    """Pooling over all positions of a sample."""

    keepdims: bool = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the channels; with `keepdims` behind spatial axes of length 1."""
        axes = spatial_axes(self, input_shape)
        return ((1,) * len(axes) if self.keepdims else ()) + input_shape[-1:]

    def _windows(self, input_shape: Shape) -> Windows:
        inputs = _three(spatial_axes(self, input_shape), 1)
        return Windows(inputs, (1, 1, 1), inputs, (1, 1, 1), (0, 0, 0))


@dataclass(frozen=True)
class MaxPooling(_WindowPooling):
    """The largest entry of each window. The first of equals gets the gradient."""

    def _pool(self, ctx: Context, x: Array, windows: Windows) -> tuple[Array, Pull]:
        return ctx.arithmetic.max_pooling(ctx, self.name, x, windows)


@dataclass(frozen=True)
class AveragePooling(_WindowPooling):
    """The mean of each window. Entries beyond the edges, which "same" padding adds, do not count."""

    def _pool(self, ctx: Context, x: Array, windows: Windows) -> tuple[Array, Pull]:
        return ctx.arithmetic.average_pooling(ctx, self.name, x, windows)


@dataclass(frozen=True)
class GlobalMaxPooling(_GlobalPooling):
    """The largest entry of each channel. The first of equals gets the gradient."""

    def _pool(self, ctx: Context, x: Array, windows: Windows) -> tuple[Array, Pull]:
        return ctx.arithmetic.max_pooling(ctx, self.name, x, windows)


@dataclass(frozen=True)
class GlobalAveragePooling(_GlobalPooling):
    """The mean of each channel."""

    def _pool(self, ctx: Context, x: Array, windows: Windows) -> tuple[Array, Pull]:
        return ctx.arithmetic.average_pooling(ctx, self.name, x, windows)


def _three(values: Sequence[int], first: int) -> Three:
    """Return numbers for three axes, where those that a sample lacks come first."""
    a, b, c = (*(first,) * (3 - len(values)), *values)
    return a, b, c
