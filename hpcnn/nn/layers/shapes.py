"""Layers that change the shape of each sample: as it is, with entries moved, left out, or repeated."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hpcnn.errors import ModelError
from hpcnn.nn.axis_maps import AxisMaps, interpolated, repeated, shifted
from hpcnn.nn.context import Context
from hpcnn.nn.layer import Backward, Layer, Params, Shape, without_parameters
from hpcnn.nn.layers.spatial import (
    check_numbers,
    check_pairs,
    for_each_axis,
    numbers,
    pairs_for_each_axis,
    spatial_axes,
    without_softmax,
)
from hpcnn.nn.workspace import Array


@dataclass(frozen=True)
class _Reshaping(Layer):
    """A layer that changes nothing but the shape of each sample."""

    def ending(self, before: str | None) -> str | None:
        return before

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        def backward(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            return dy.reshape(x.shape) if need_dx else None

        return x.reshape(len(x), *self.output_shape(x.shape[1:])), backward


@dataclass(frozen=True)
class Flatten(_Reshaping):
    """All axes of a sample into one: (n, a, b, ...) -> (n, a b ...)."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape with one axis."""
        return (math.prod(input_shape),)


@dataclass(frozen=True)
class Reshape(_Reshaping):
    """Another shape for each sample; one entry of `shape` may be -1, and follows from the others."""

    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.shape.count(-1) > 1 or any(entry < 1 and entry != -1 for entry in self.shape):
            raise ModelError(
                f"{self.title}: a shape is made of positive numbers and at most one -1, but is {self.shape}"
            )

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return `shape`, with -1 filled in."""
        size, known = math.prod(input_shape), math.prod(entry for entry in self.shape if entry != -1)
        if size % known or (-1 not in self.shape and size != known):
            raise ModelError(
                f"{self.title} can't turn inputs of shape {input_shape} ({size} numbers a sample) into "
                f"{self.shape}: {size} is not {'a multiple of ' if -1 in self.shape else ''}{known}"
            )
        return tuple(size // known if entry == -1 else entry for entry in self.shape)


@dataclass(frozen=True)
class Permute(Layer):
    """Axes of each sample in another order: axis i of the outputs is axis ``dims[i]`` of the inputs, counted from 1."""

    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        if not self.dims or sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ModelError(
                f"{self.title}: dims must hold each axis of a sample once, counted from 1, as [2, 1], but is "
                f"{list(self.dims)}"
            )

    def ending(self, before: str | None) -> str | None:
        """Return `before`, unless it is a softmax, whose rows may lie elsewhere now."""
        return without_softmax(before)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the lengths of the axes in their new order."""
        if len(input_shape) != len(self.dims):
            raise ModelError(
                f"{self.title}: dims = {list(self.dims)} names {len(self.dims)} axes, but samples of shape "
                f"{input_shape} have {len(input_shape)}"
            )
        return tuple(input_shape[axis - 1] for axis in self.dims)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y in scratch."""
        y, pull = ctx.arithmetic.permute(ctx, self.name, x, (0, *self.dims))
        return y, without_parameters(pull)


@dataclass(frozen=True)
class _Mapping(Layer):
    """A layer that maps each axis by itself."""

    def ending(self, before: str | None) -> str | None:
        """Return `before`, unless it is a softmax."""
        return without_softmax(before)

    @abstractmethod
    def _maps(self, input_shape: Shape) -> AxisMaps:
        """Return the maps, and their axes."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the lengths that the maps make of the axes."""
        shape = list(input_shape)
        for axis, each in self._maps(input_shape):
            shape[axis - 1] = each.rows
        return tuple(shape)

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y in scratch, or x itself if there is nothing to do."""
        y, pull = ctx.arithmetic.map_axes(ctx, self.name, x, self._maps(x.shape[1:]))
        return y, without_parameters(pull)


@dataclass(frozen=True)
class RepeatVector(_Mapping):
    """Repeats each sample, a vector: (features) -> (n, features)."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ModelError(f"{self.title}: n must be at least 1, but is {self.n}")

    def ending(self, before: str | None) -> str | None:
        """Return `before`."""
        return before

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return (n, features)."""
        if len(input_shape) != 1:
            raise ModelError(
                f"{self.title} repeats vectors, of shape (features,), but samples have shape {input_shape}. Put a "
                "flatten layer before it."
            )
        return self.n, *input_shape

    def _maps(self, input_shape: Shape) -> AxisMaps:
        return [(1, repeated(1, self.n))]

    def forward(self, params: Params, x: Array, ctx: Context) -> tuple[Array, Backward]:
        """Return y in scratch."""
        y, backward = super().forward(params, x.reshape(len(x), 1, x.shape[-1]), ctx)

        def reshaped(dy: Array, grads: Params, *, need_dx: bool = True) -> Array | None:
            dx = backward(dy, grads, need_dx=need_dx)
            return None if dx is None else dx.reshape(x.shape)

        return y, reshaped


@dataclass(frozen=True)
class ZeroPadding(_Mapping):
    """Zeros before and after the entries of each spatial axis: one number, one for each axis, or pairs."""

    padding: int | Sequence[int | Sequence[int]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", numbers(self.padding))
        check_pairs(self, "padding", self.padding)

    def _maps(self, input_shape: Shape) -> AxisMaps:
        axes = spatial_axes(self, input_shape)
        pairs = pairs_for_each_axis(self, "padding", self.padding, axes)
        places = [(axis, length, *pair) for axis, (length, pair) in enumerate(zip(axes, pairs, strict=True), 1)]
        return [(axis, shifted(length, before, after)) for axis, length, before, after in places if before or after]


@dataclass(frozen=True)
class Cropping(_Mapping):
    """Entries left out at both ends of each spatial axis: one number, one for each axis, or pairs."""

    cropping: int | Sequence[int | Sequence[int]] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "cropping", numbers(self.cropping))
        check_pairs(self, "cropping", self.cropping)

    def _maps(self, input_shape: Shape) -> AxisMaps:
        axes = spatial_axes(self, input_shape)
        pairs = pairs_for_each_axis(self, "cropping", self.cropping, axes)
        if any(sum(pair) >= length for length, pair in zip(axes, pairs, strict=True)):
            raise ModelError(
                f"{self.title}: cropping {[list(pair) for pair in pairs]} leaves nothing of samples of shape "
                f"{input_shape}. Crop less."
            )
        places = [(axis, length, *pair) for axis, (length, pair) in enumerate(zip(axes, pairs, strict=True), 1)]
        return [(axis, shifted(length, -before, -after)) for axis, length, before, after in places if before or after]


@dataclass(frozen=True)
class UpSampling(_Mapping):
    """More entries along each spatial axis: each repeated, or for images interpolated between their centres."""

    size: int | Sequence[int] = 2
    interpolation: str = "nearest"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", numbers(self.size))
        check_numbers(self, "size", self.size, 1)
        if self.interpolation not in ("nearest", "bilinear"):
            raise ModelError(
                f'{self.title}: interpolation must be "nearest" or "bilinear", but is {self.interpolation!r}'
            )

    def _maps(self, input_shape: Shape) -> AxisMaps:
        axes = spatial_axes(self, input_shape)
        if self.interpolation == "bilinear" and len(axes) != 2:
            raise ModelError(
                f'{self.title}: interpolation = "bilinear" is for samples of shape (height, width, channels), but they '
                f'have shape {input_shape}. Choose "nearest".'
            )
        size = for_each_axis(self, "size", self.size, axes)
        make = interpolated if self.interpolation == "bilinear" else repeated
        places = enumerate(zip(axes, size, strict=True), 1)
        return [(axis, make(length, times)) for axis, (length, times) in places if times > 1]
