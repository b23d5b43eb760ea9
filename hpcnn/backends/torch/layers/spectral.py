"""Convolutions in the space of frequencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.backends.torch.layers.making import Call, Make, Place
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import SpectralConv1D
from hpcnn.nn.sines import analysis, synthesis


def _spectral(place: Place) -> Call:
    import torch

    kernel, sizes = place.name("kernel"), (place.input_shape[0], place.layer.modes, np.dtype(place.dtype).char)
    forth, back = (torch.from_numpy(table(*sizes).copy()) for table in (analysis, synthesis))

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        spectrum = torch.einsum("nlc,lkqp->nkqpc", x, forth.to(x.device))
        mixed = torch.einsum("nkqpc,kpcf->nkqf", spectrum, p[kernel])
        return torch.einsum("nkqf,kql->nlf", mixed, back.to(x.device))

    return call


LAYERS: Mapping[type[Layer], Make] = {SpectralConv1D: _spectral}
