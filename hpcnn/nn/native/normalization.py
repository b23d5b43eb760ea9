"""Normalisations."""

from __future__ import annotations

from hpcnn.nn.arithmetic import Grad, NormBackward, RmsNormBackward
from hpcnn.nn.native.base import NativeBase, real_type, sums
from hpcnn.nn.workspace import Array, Workspace


class NativeNormalization(NativeBase):
    """See `Arithmetic`."""

    def layer_norm(
        self, ctx: Workspace, owner: object, x: Array, gamma: Array | None, beta: Array | None, epsilon: float
    ) -> tuple[Array, NormBackward]:
        """Normalise each row."""
        scaled = gamma if beta is None else beta
        x = self._plain(x, real_type(x) if scaled is None else scaled.dtype)
        normal = ctx.scratch(owner, "normal", x.shape, x.dtype)
        inverse = ctx.scratch(owner, "inverse", (len(x),), x.dtype)
        y = normal if gamma is None and beta is None else ctx.scratch(owner, "y", x.shape, x.dtype)
        self._do.layer_norm(x, gamma, beta, normal, inverse, y, epsilon)

        def backward(dy: Array, gamma_grad: Grad, beta_grad: Grad, /, *, need_dx: bool) -> Array | None:
            shards, dy = self._shards_of(len(x)), self._own(dy, x.dtype)
            if gamma_grad is not None:
                self._do.column_sums(shards, dy, normal, sums(gamma_grad))
            if beta_grad is not None:
                self._do.column_sums(shards, dy, None, sums(beta_grad))
            if not need_dx:
                return None
            self._do.layer_norm_backward(normal, inverse, gamma, dy, dy)
            return dy

        return y, backward

    def rms_norm(
        self, ctx: Workspace, owner: object, x: Array, scale: Array, epsilon: float
    ) -> tuple[Array, RmsNormBackward]:
        """Normalise each row."""
        x = self._plain(x, scale.dtype)
        normal, y = (ctx.scratch(owner, use, x.shape, x.dtype) for use in ("normal", "y"))
        inverse = ctx.scratch(owner, "inverse", (len(x),), x.dtype)
        self._do.rms_norm(x, scale, normal, inverse, y, epsilon)

        def backward(dy: Array, scale_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dy = self._own(dy, x.dtype)
            if scale_grad is not None:
                self._do.column_sums(self._shards_of(len(x)), dy, normal, sums(scale_grad))
            if not need_dx:
                return None
            self._do.rms_norm_backward(normal, inverse, scale, dy, dy)
            return dy

        return y, backward
