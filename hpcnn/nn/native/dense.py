"""Products with bias and activation, activations alone, and sums of two arrays."""

from __future__ import annotations

from hpcnn.nn.arithmetic import DenseBackward, Grad, Pull, PullTwice
from hpcnn.nn.native.base import CODES, SAVES_SLOPE, NativeBase, real_type, sums
from hpcnn.nn.workspace import Array, Workspace


class NativeDense(NativeBase):
    """See `Arithmetic`."""

    def dense(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array, bias: Array | None, activation: str
    ) -> tuple[Array, DenseBackward]:
        """Multiply, add the bias and apply the activation in one operation."""
        shape, dtype = (len(x), kernel.shape[1]), kernel.dtype
        x = self._plain(x, dtype)
        y = ctx.scratch(owner, "y", shape, dtype)
        fused = activation != "softmax"
        slopes = ctx.scratch(owner, "slopes", shape, dtype) if activation in SAVES_SLOPE else None
        self._do.product(x, kernel, y, bias, CODES[activation] if fused else 0, slopes)
        if not fused:
            self._do.activate(CODES[activation], y, y, None)

        def backward(dy: Array, kernel_grad: Grad, bias_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dz = self._pull(activation, y if slopes is None else slopes, self._own(dy, dtype))
            shards = self._shards_of(len(x))
            if kernel_grad is not None:
                self._do.weight_gradient(shards, x, dz, sums(kernel_grad))
            if bias_grad is not None:
                self._do.column_sums(shards, dz, None, sums(bias_grad))
            if not need_dx:
                return None
            dx = ctx.scratch(owner, "dx", x.shape, dtype)
            self._do.product(dz, kernel.T, dx, None, 0, None)
            return dx

        return y, backward

    def activation(self, ctx: Workspace, owner: object, name: str, x: Array) -> tuple[Array, Pull]:
        """Apply it."""
        x = self._plain(x, real_type(x))
        y = ctx.scratch(owner, "y", x.shape, x.dtype)
        slopes = ctx.scratch(owner, "slopes", x.shape, x.dtype) if name in SAVES_SLOPE else None
        self._do.activate(CODES[name], x, y, slopes)
        return y, lambda dy: self._pull(name, y if slopes is None else slopes, self._own(dy, x.dtype))

    def add(self, x1: Array, x2: Array, out: Array) -> Array:
        """Add."""
        self._do.add(self._plain(x1, out.dtype), self._plain(x2, out.dtype), out)
        return out

    def add_relu(self, ctx: Workspace, owner: object, x1: Array, x2: Array, out: Array) -> tuple[Array, PullTwice]:
        """Add, and apply relu, in one operation."""
        self._do.add_relu(self._plain(x1, out.dtype), self._plain(x2, out.dtype), out)

        def pull(dy: Array, copy: Array | None) -> Array:
            dy = self._own(dy, out.dtype)
            self._do.add_relu_backward(out, dy, dy, dy if copy is None else copy)
            return dy

        return out, pull

    def copy(self, x: Array, out: Array) -> Array:
        """Copy."""
        self._do.activate(CODES["linear"], self._plain(x, out.dtype), out, None)
        return out
