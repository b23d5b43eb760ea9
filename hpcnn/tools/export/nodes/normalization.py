"""Normalisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import LayerNorm
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Graph


def _layer_norm(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    one = np.ones(shape[-1:], KERNEL_TYPE)  # the operation demands a scale
    gamma = graph.parameter(f"{name}/gamma") if layer.scale else graph.constant(f"{name}/one", one)
    beta = [graph.parameter(f"{name}/beta")] if layer.center else []
    return graph.add("LayerNormalization", tensor, gamma, *beta, name=f"{name}/normal", axis=-1, epsilon=layer.epsilon)


LAYERS: Mapping[type[Layer], AddLayer] = {LayerNorm: _layer_norm}
