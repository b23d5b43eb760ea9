"""Layers of several inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Add, Average, Concatenate, Maximum, Multiply
from hpcnn.tools.export.graph import AddLayer, Graph


def _merged(operation: str) -> AddLayer:
    return lambda graph, layer, tensors, shapes: graph.add(operation, *tensors, name=f"{layer.name}/merged")


def _multiply(graph: Graph, layer: Any, tensors: Sequence[str], shapes: Any) -> str:
    product = tensors[0]
    for number, tensor in enumerate(tensors[1:], 1):
        product = graph.add("Mul", product, tensor, name=f"{layer.name}/merged/{number}")
    return product


def _concatenate(graph: Graph, layer: Any, tensors: Sequence[str], shapes: Any) -> str:
    return graph.add("Concat", *tensors, name=f"{layer.name}/merged", axis=layer.axis)


LAYERS: Mapping[type[Layer], AddLayer] = {
    Add: _merged("Sum"),
    Average: _merged("Mean"),
    Maximum: _merged("Max"),
    Multiply: _multiply,
    Concatenate: _concatenate,
}
