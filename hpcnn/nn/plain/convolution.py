"""Convolutions and transposed ones: a product for each tap of the kernel, with a shifted view of the image."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from hpcnn.nn.activations import activation
from hpcnn.nn.arithmetic import DenseBackward, Grad
from hpcnn.nn.geometry import Geometry
from hpcnn.nn.plain.sums import sum_rows
from hpcnn.nn.workspace import Array, Workspace


class PlainConvolution:
    """See `Arithmetic`."""

    def convolution(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array, bias: Array | None, name: str, shape: Geometry
    ) -> tuple[Array, DenseBackward]:
        """Add the products of all taps."""
        z = ctx.scratch(owner, "z", (len(x) * shape.positions, kernel.shape[-1]), kernel.dtype)
        sliding = _sliding(ctx, owner, kernel, shape)
        sliding.gather(sliding.padded(x, "padded"), z)
        if bias is not None:
            np.add(z, bias, out=z)
        y, activation_backward = activation(name)(z, ctx, owner)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, *, need_dx: bool) -> Array | None:
            dz = activation_backward(dy.reshape(z.shape))
            if kernel_grad is not None:
                sliding.kernel_gradient(sliding.padded(x, "padded"), dz, kernel_grad)
            if bias_grad is not None:
                sum_rows(dz, ctx, out=bias_grad)
            return sliding.scatter(dz, ctx.scratch(owner, "dx", x.shape, kernel.dtype)) if need_dx else None

        return y.reshape(len(x), *shape.outputs, kernel.shape[-1]), backward

    def transposed_convolution(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array, bias: Array | None, name: str, shape: Geometry
    ) -> tuple[Array, DenseBackward]:
        """Add the products of all taps to the places that each one reaches."""
        sliding = _sliding(ctx, owner, kernel, shape)
        rows = ctx.scratch(owner, "x", (len(x) * shape.positions, kernel.shape[-1]), kernel.dtype)
        np.copyto(rows.reshape(x.shape), x)
        z = sliding.scatter(rows, ctx.scratch(owner, "z", (len(x), *shape.inputs, kernel.shape[-2]), kernel.dtype))
        if bias is not None:
            np.add(z, bias, out=z)
        y, activation_backward = activation(name)(z, ctx, owner)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, *, need_dx: bool) -> Array | None:
            dz = activation_backward(dy)
            padded = sliding.padded(dz, "padded")
            if kernel_grad is not None:
                sliding.kernel_gradient(padded, rows, kernel_grad)
            if bias_grad is not None:
                sum_rows(dz.reshape(dz.size // dz.shape[-1], dz.shape[-1]), ctx, out=bias_grad)
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, kernel.dtype)
            sliding.gather(padded, dx.reshape(rows.shape))
            return dx

        return y, backward


class _Sliding:
    """The passes of one kernel over images. Rows are output positions: (n positions, filters)."""

    def __init__(self, ctx: Workspace, owner: object, kernel: Array, shape: Geometry) -> None:
        self._ctx, self._owner, self._kernel, self._shape = ctx, owner, kernel, shape
        self._channels, self._filters = kernel.shape[-2], kernel.shape[-1] // shape.groups  # of a group
        sides = zip(shape.inputs, shape.outputs, shape.kernel, shape.strides, shape.dilation, shape.before, strict=True)
        self._sizes = tuple(max(i + b, (o - 1) * s + (k - 1) * d + 1) for i, o, k, s, d, b in sides)

    def padded(self, image: Array, use: str) -> Array:
        """Return the image with zeros around it: scratch."""
        padded = self._ctx.scratch(self._owner, use, (len(image), *self._sizes, image.shape[-1]), self._kernel.dtype)
        padded.fill(0)
        np.copyto(self._inner(padded), image)
        return padded

    def _inner(self, padded: Array) -> Array:
        d, h, w = (slice(b, b + i) for b, i in zip(self._shape.before, self._shape.inputs, strict=True))
        return padded[:, d, h, w]

    def _taps(self, padded: Array) -> Iterator[tuple[tuple[int, ...], Array]]:
        """Yield each tap, and the view of the image that it meets: (n, *outputs, channels)."""
        shape = self._shape
        for tap in product(*map(range, shape.kernel)):
            d, h, w = (
                slice(t * spread, t * spread + (size - 1) * stride + 1, stride)
                for t, spread, size, stride in zip(tap, shape.dilation, shape.outputs, shape.strides, strict=True)
            )
            yield tap, padded[:, d, h, w]

    def _scratch(self, use: str, *shape: int) -> Array:
        return self._ctx.scratch(self._owner, use, shape, self._kernel.dtype)

    def _groups(self) -> Iterator[tuple[slice, slice]]:
        """Yield the channels and filters of each group."""
        c, f = self._channels, self._filters
        for group in range(self._shape.groups):
            yield slice(group * c, (group + 1) * c), slice(group * f, (group + 1) * f)

    def _patch(self, view: Array, channels: slice) -> Array:
        """Return what a tap meets as rows, in scratch."""
        patch = self._scratch("patch", len(view) * self._shape.positions, self._channels)
        np.copyto(patch.reshape(*view.shape[:-1], self._channels), view[..., channels])
        return patch

    def gather(self, padded: Array, rows: Array) -> None:
        """Write the convolution of an image to `rows`."""
        rows.fill(0)
        part = self._scratch("part", len(rows), self._filters)
        for tap, view in self._taps(padded):
            for channels, filters in self._groups():
                self._ctx.matmul(self._patch(view, channels), self._kernel[tap][:, filters], out=part)
                np.add(rows[:, filters], part, out=rows[:, filters])

    def scatter(self, rows: Array, image: Array) -> Array:
        """Write the sum of what rows give to the places that they see, and return `image`."""
        padded = self._scratch("scattered", len(image), *self._sizes, image.shape[-1])
        padded.fill(0)
        part = self._scratch("patch", len(rows), self._channels)
        for tap, view in self._taps(padded):
            for channels, filters in self._groups():
                self._ctx.matmul(rows[:, filters], self._kernel[tap][:, filters].T, out=part)
                seen = view[..., channels]
                np.add(seen, part.reshape(seen.shape), out=seen)
        np.copyto(image, self._inner(padded))
        return image

    def kernel_gradient(self, padded: Array, rows: Array, grad: Array) -> None:
        """Write the gradient of the kernel."""
        grad = grad.reshape(self._kernel.shape)
        part = self._scratch("kernel", self._channels, self._filters)
        for tap, view in self._taps(padded):
            for channels, filters in self._groups():
                self._ctx.matmul(self._patch(view, channels).T, rows[:, filters], out=part)
                np.copyto(grad[tap][:, filters], part)


class _Depthwise(_Sliding):
    """The same with a group for each channel: entry by entry, since products of single columns are slow."""

    def _parts(self, rows: Array, n: int) -> tuple[Array, Array]:
        """Return rows as (n, *outputs, channels, filters of each), and scratch of that shape."""
        shape = (n, *self._shape.outputs, self._shape.groups, self._filters)
        return rows.reshape(shape), self._scratch("part", *shape)

    def _weights(self, tap: tuple[int, ...]) -> Array:
        weights: Array = self._kernel[tap].reshape(self._shape.groups, self._filters)
        return weights

    def gather(self, padded: Array, rows: Array) -> None:
        rows.fill(0)
        sums, part = self._parts(rows, len(padded))
        for tap, view in self._taps(padded):
            np.multiply(view[..., np.newaxis], self._weights(tap), out=part)
            np.add(sums, part, out=sums)

    def scatter(self, rows: Array, image: Array) -> Array:
        padded = self._scratch("scattered", len(image), *self._sizes, image.shape[-1])
        padded.fill(0)
        given, part = self._parts(rows, len(image))
        for tap, seen in self._taps(padded):
            np.multiply(given, self._weights(tap), out=part)
            for number in range(self._filters):
                np.add(seen, part[..., number], out=seen)
        np.copyto(image, self._inner(padded))
        return image

    def kernel_gradient(self, padded: Array, rows: Array, grad: Array) -> None:
        grad = grad.reshape(self._kernel.shape)
        given, part = self._parts(rows, len(padded))
        for tap, view in self._taps(padded):
            np.multiply(view[..., np.newaxis], given, out=part)
            sum_rows(part.reshape(rows.shape), self._ctx, out=grad[tap][0])


def _sliding(ctx: Workspace, owner: object, kernel: Array, shape: Geometry) -> _Sliding:
    depthwise = shape.groups > 1 and kernel.shape[-2] == 1
    return (_Depthwise if depthwise else _Sliding)(ctx, owner, kernel, shape)
