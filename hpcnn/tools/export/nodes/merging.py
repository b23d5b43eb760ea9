"""Layers of several inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcnn.nn.layer import MultiInput
from hpcnn.nn.layers import Add, Average, Concatenate, Maximum, Multiply
from hpcnn.tools.export.graph import Graph

Merge = Callable[[Graph, Any, Sequence[str]], str]
"""``(graph, layer, tensors) -> tensor of the outputs``."""


def _merged(operation: str) -> Merge:
    return lambda graph, layer, tensors: graph.add(operation, *tensors, name=f"{layer.name}/merged")


def _multiply(graph: Graph, layer: Any, tensors: Sequence[str]) -> str:
    product = tensors[0]
    for number, tensor in enumerate(tensors[1:], 1):
        product = graph.add("Mul", product, tensor, name=f"{layer.name}/merged/{number}")
    return product


def _concatenate(graph: Graph, layer: Any, tensors: Sequence[str]) -> str:
    return graph.add("Concat", *tensors, name=f"{layer.name}/merged", axis=layer.axis)


MERGING: Mapping[type[MultiInput], Merge] = {
    Add: _merged("Sum"),
    Average: _merged("Mean"),
    Maximum: _merged("Max"),
    Multiply: _multiply,
    Concatenate: _concatenate,
}
