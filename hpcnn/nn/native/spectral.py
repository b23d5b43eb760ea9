"""Convolutions in the space of frequencies: products, and axes that change places."""

from __future__ import annotations

from hpcnn.nn.arithmetic import Grad, KernelBackward
from hpcnn.nn.native.base import NativeBase, sums
from hpcnn.nn.sines import analysis, synthesis
from hpcnn.nn.workspace import Array, Workspace


class NativeSpectral(NativeBase):
    """See `Arithmetic`."""

    def spectral_convolution(
        self, ctx: Workspace, owner: object, x: Array, kernel: Array
    ) -> tuple[Array, KernelBackward]:
        """Multiply by tables of sines, then, for each frequency, all samples by its matrix.

        `spectrum` has, for each sample, the rows (re, -im) and (im, re) of all channels: with the column (re, im) of
        the kernel they give real and imaginary part.
        """
        (n, length, channels), (modes, _, _, filters), dtype = x.shape, kernel.shape, kernel.dtype
        x = self._plain(x, dtype)
        into = analysis(length, modes, dtype.char).reshape(length, 4 * modes)
        back = synthesis(length, modes, dtype.char).reshape(2 * modes, length)

        def moved(use: str, array: Array, axes: tuple[int, ...]) -> Array:
            view = array.transpose(axes)
            out = ctx.scratch(owner, use, view.shape, dtype)
            self._do.permute(view, out)
            return out

        def multiplied(use: str, rows: Array, matrix: Array) -> Array:
            """Multiply the last axis."""
            out = ctx.scratch(owner, use, (*rows.shape[:-1], matrix.shape[1]), dtype)
            flat = rows.reshape(-1, rows.shape[-1]), out.reshape(-1, matrix.shape[1])
            self._do.product(flat[0], matrix, flat[1], None, 0, None)
            return out

        def mixed(use: str, rows: Array, width: int, *, transposed: bool) -> Array:
            """Multiply the rows of each frequency by its matrix: (modes, n, 2, ...) -> (modes, n, 2, width)."""
            out = ctx.scratch(owner, use, (modes, n, 2, width), dtype)
            for mode in range(modes):
                matrix = kernel[mode].reshape(2 * channels, filters)
                matrix = matrix.T if transposed else matrix
                given, taken = rows[mode].reshape(2 * n, len(matrix)), out[mode].reshape(2 * n, width)
                self._do.product(given, matrix, taken, None, 0, None)
            return out

        coefficients = multiplied("coefficients", moved("x", x, (0, 2, 1)), into)
        spectrum = moved("spectrum", coefficients.reshape(n, channels, modes, 2, 2), (2, 0, 3, 4, 1))
        result = mixed("result", spectrum.reshape(modes, n, 2, 2 * channels), filters, transposed=False)
        points = multiplied("points", moved("parts", result, (1, 3, 0, 2)).reshape(n, filters, 2 * modes), back)
        y = moved("y", points, (0, 2, 1))

        def backward(dy: Array, kernel_grad: Grad, /, *, need_dx: bool) -> Array | None:
            dparts = multiplied("dparts", moved("dy", self._plain(dy, dtype), (0, 2, 1)), back.T)
            dresult = moved("dresult", dparts.reshape(n, filters, modes, 2), (2, 0, 3, 1))
            if kernel_grad is not None:
                shards = self._shards_of(2 * n)
                for mode in range(modes):
                    rows, drows = spectrum[mode].reshape(2 * n, 2 * channels), dresult[mode].reshape(2 * n, filters)
                    grads = tuple(grad[mode].reshape(2 * channels, filters) for grad in sums(kernel_grad))
                    self._do.weight_gradient(shards, rows, drows, grads)
            if not need_dx:
                return None
            dspectrum = mixed("dspectrum", dresult, 2 * channels, transposed=True)
            dcoefficients = moved("dcoefficients", dspectrum.reshape(modes, n, 2, 2, channels), (1, 4, 0, 2, 3))
            dpoints = multiplied("dpoints", dcoefficients.reshape(n, channels, 4 * modes), into.T)
            return moved("dx", dpoints, (0, 2, 1))

        return y, backward
