"""Convolutions in the space of frequencies, which Keras has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.backends.keras.layers.making import Make
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import SpectralConv1D
from hpcnn.nn.sines import analysis, synthesis


def _spectral(layer: Any, dtype: str) -> Any:
    import keras

    class Spectral(keras.layers.Layer):  # type: ignore[misc]
        """Multiplies each of the lowest frequencies by a complex matrix."""

        kernel: Any = None

        def build(self, shape: Sequence[int]) -> None:
            self.kernel = self.add_weight(shape=(layer.modes, 2, shape[2], layer.filters), name="kernel")

        def call(self, x: Any) -> Any:
            sizes = x.shape[1], layer.modes, np.dtype(dtype).char
            spectrum = keras.ops.einsum("nlc,lkqp->nkqpc", x, analysis(*sizes))
            result = keras.ops.einsum("nkqpc,kpcf->nkqf", spectrum, self.kernel)
            return keras.ops.einsum("nkqf,kql->nlf", result, synthesis(*sizes))

    return Spectral(dtype=dtype)


LAYERS: Mapping[type[Layer], Make] = {SpectralConv1D: _spectral}
