"""Convolutions in the space of frequencies: products with constant matrices of sines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import SpectralConv1D
from hpcnn.nn.sines import analysis, synthesis
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Graph


def _spectral(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    (length, channels), modes, name = shape, layer.modes, layer.name
    sizes = length, modes, np.dtype(KERNEL_TYPE).char

    def ordered(use: str, tensor: str, axes: Sequence[int]) -> str:
        return graph.add("Transpose", tensor, name=f"{name}/{use}", perm=list(axes))

    def shaped(use: str, tensor: str, *to: int) -> str:
        sizes = graph.constant(f"{name}/{use}/shape", np.array(to, np.int64))
        return graph.add("Reshape", tensor, sizes, name=f"{name}/{use}")

    def multiplied(use: str, tensor: str, matrix: str) -> str:
        return graph.add("MatMul", tensor, matrix, name=f"{name}/{use}")

    into = graph.constant(f"{name}/analysis", analysis(*sizes).reshape(length, 4 * modes))
    back = graph.constant(f"{name}/synthesis", synthesis(*sizes).reshape(2 * modes, length))
    weights = graph.weight(f"{name}/kernel").astype(KERNEL_TYPE).reshape(modes, 2 * channels, layer.filters)
    kernel = graph.constant(f"{name}/kernel", weights)
    tensor = multiplied("coefficients", ordered("columns", tensor, (0, 2, 1)), into)
    tensor = ordered("spectrum", shaped("each", tensor, -1, channels, modes, 2, 2), (2, 0, 3, 4, 1))
    tensor = multiplied("mixed", shaped("rows", tensor, modes, -1, 2 * channels), kernel)
    tensor = ordered("parts", shaped("result", tensor, modes, -1, 2, layer.filters), (1, 3, 0, 2))
    tensor = multiplied("points", shaped("coefficients/out", tensor, -1, layer.filters, 2 * modes), back)
    return ordered("outputs", tensor, (0, 2, 1))


LAYERS: Mapping[type[Layer], AddLayer] = {SpectralConv1D: _spectral}
