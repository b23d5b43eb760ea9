"""Convolutions and transposed ones: the same operations of the core, forward and back."""

from __future__ import annotations

from hpcnn.nn.arithmetic import DenseBackward, Grad
from hpcnn.nn.geometry import Geometry
from hpcnn.nn.native.base import CODES, SAVES_SLOPE, NativeBase, sums
from hpcnn.nn.workspace import Array, Workspace


class NativeConvolution(NativeBase):
    """See `Arithmetic`."""

    def convolution(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        kernel: Array,
        bias: Array | None,
        activation: str,
        shape: Geometry,
    ) -> tuple[Array, DenseBackward]:
        """Convolve, add the bias and apply the activation in one operation."""
        x = self._plain(x, kernel.dtype)
        y = ctx.scratch(owner, "y", (len(x), *shape.outputs, kernel.shape[-1]), kernel.dtype)
        saved = self._slide("convolution", ctx, owner, x, kernel, bias, activation, shape, y)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dz = self._pull(activation, saved, self._own(dy, kernel.dtype))
            self._kernel_gradient(shape, x, dz, kernel, kernel_grad)
            self._bias_gradient(dz, bias_grad)
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, kernel.dtype)
            self._do.convolution_input_gradient(shape.numbers, dz, kernel, None, 0, dx, None)
            return dx

        return y, backward

    def transposed_convolution(
        self,
        ctx: Workspace,
        owner: object,
        x: Array,
        kernel: Array,
        bias: Array | None,
        activation: str,
        shape: Geometry,
    ) -> tuple[Array, DenseBackward]:
        """Do what makes the gradient of a convolution's inputs of that of its outputs."""
        x = self._plain(x, kernel.dtype)
        y = ctx.scratch(owner, "y", (len(x), *shape.inputs, kernel.shape[-2]), kernel.dtype)
        saved = self._slide("convolution_input_gradient", ctx, owner, x, kernel, bias, activation, shape, y)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dz = self._pull(activation, saved, self._own(dy, kernel.dtype))
            self._kernel_gradient(shape, dz, x, kernel, kernel_grad)
            self._bias_gradient(dz, bias_grad)
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, kernel.dtype)
            self._do.convolution(shape.numbers, dz, kernel, None, 0, dx, None)
            return dx

        return y, backward

    def _slide(
        self,
        operation: str,
        ctx: Workspace,
        owner: object,
        x: Array,
        kernel: Array,
        bias: Array | None,
        activation: str,
        shape: Geometry,
        y: Array,
    ) -> Array:
        """Write y, and return what the gradient of the activation is computed from."""
        fused = activation != "softmax"
        slopes = ctx.scratch(owner, "slopes", y.shape, y.dtype) if activation in SAVES_SLOPE else None
        getattr(self._do, operation)(shape.numbers, x, kernel, bias, CODES[activation] if fused else 0, y, slopes)
        if not fused:
            self._do.activate(CODES[activation], y, y, None)
        return y if slopes is None else slopes

    def _kernel_gradient(self, shape: Geometry, x: Array, dy: Array, kernel: Array, grad: Grad) -> None:
        if grad is not None:
            shards = self._shards_of(len(x) * shape.positions)
            kernels = tuple(each.reshape(kernel.shape) for each in sums(grad))
            self._do.convolution_weight_gradient(shape.numbers, shards, x, dy, kernels)

    def _bias_gradient(self, dy: Array, grad: Grad) -> None:
        if grad is not None:
            rows = dy.size // dy.shape[-1]
            self._do.column_sums(self._shards_of(rows), dy.reshape(rows, dy.shape[-1]), None, sums(grad))
