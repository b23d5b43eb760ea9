"""Convolutions in the space of frequencies, which Keras has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.backends.keras.layers.making import Make
from hpcnn.backends.keras.layers.spatial import Operation
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import SpectralConv1D
from hpcnn.nn.sines import analysis, synthesis


def _spectral(layer: Any, dtype: str) -> Any:
    import keras

    mix = keras.layers.EinsumDense("nkqpc,kpcf->nkqf", (layer.modes, 2, layer.filters), dtype=dtype)

    def compute(x: Any) -> Any:
        sizes = x.shape[1], layer.modes, np.dtype(dtype).char
        spectrum = keras.ops.einsum("nlc,lkqp->nkqpc", x, analysis(*sizes))
        return keras.ops.einsum("nkqf,kql->nlf", mix(spectrum), synthesis(*sizes))

    return Operation(compute, mix)


LAYERS: Mapping[type[Layer], Make] = {SpectralConv1D: _spectral}
