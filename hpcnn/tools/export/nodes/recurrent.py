"""Recurrent layers, one direction or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn.activations import LEAKY_RELU_SLOPE
from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import GRU, LSTM, Bidirectional, SimpleRNN
from hpcnn.nn.layers.recurrent import Recurrent
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Array, Graph

ORDERS: Mapping[type[Layer], tuple[str, Sequence[int]]] = {
    SimpleRNN: ("RNN", (0,)),
    GRU: ("GRU", (0, 1, 2)),
    LSTM: ("LSTM", (0, 3, 1, 2)),  # i, o, f, c there
}
"""The operation of a layer, and the order of its gates there."""
ACTIVATIONS: Mapping[str, tuple[str, float, float]] = {
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", 0.0, 0.0),
    "leaky_relu": ("LeakyRelu", LEAKY_RELU_SLOPE, 0.0),
    "elu": ("Elu", 1.0, 0.0),
    "softplus": ("Softplus", 0.0, 0.0),
    "sigmoid": ("Sigmoid", 0.0, 0.0),
    "tanh": ("Tanh", 0.0, 0.0),
}
"""Their names within a cell, with alpha and beta."""


def _gates_first(array: Array, order: Sequence[int]) -> Array:
    """Return a kernel (rows, gates units) as (gates units, rows), its gates in another order."""
    gates = np.split(array, len(order), axis=1)
    return np.concatenate([gates[gate] for gate in order], axis=1).T


def _add(graph: Graph, name: str, ways: Sequence[Recurrent], tensor: str) -> str:
    """Add the operation for one or both ways; return the tensor of all outputs (steps, ways, n, units)."""
    first = ways[0]
    operation, order = ORDERS[type(first)]
    kernels, recurrents, biases = [], [], []
    for way in ways:
        values = {each: graph.weight(f"{way.name}/{each}") for each in ("kernel", "recurrent_kernel")}
        kernels.append(_gates_first(values["kernel"], order))
        recurrents.append(_gates_first(values["recurrent_kernel"], order))
        rows = np.zeros((2, len(order) * way.units))
        if way.use_bias:
            given = graph.weight(f"{way.name}/bias")
            rows[: 2 if given.ndim == 2 else 1] = given
        biases.append(_gates_first(rows, order).T.reshape(-1))
    constants = [
        graph.constant(f"{name}/{use}", np.stack(arrays).astype(KERNEL_TYPE))
        for use, arrays in (("W", kernels), ("R", recurrents), ("B", biases))
    ]
    cell = first.cell
    within = [cell.activation] if isinstance(first, SimpleRNN) else [cell.recurrent_activation, cell.activation]
    within += [cell.activation] if isinstance(first, LSTM) else []
    names, alphas, betas = zip(*(_activation(first, each) for each in within), strict=True)
    settings = {"linear_before_reset": int(first.reset_after)} if isinstance(first, GRU) else {}
    steps_first = graph.add("Transpose", tensor, name=f"{name}/steps", perm=[1, 0, 2])
    return graph.add(
        operation,
        steps_first,
        *constants,
        name=f"{name}/outputs",
        hidden_size=first.units,
        direction="bidirectional" if len(ways) == 2 else "reverse" if first.go_backwards else "forward",
        activations=list(names) * len(ways),
        activation_alpha=list(alphas) * len(ways),
        activation_beta=list(betas) * len(ways),
        **settings,
    )


def _activation(layer: Layer, name: str) -> tuple[str, float, float]:
    if name not in ACTIVATIONS:
        raise ModelError(
            f"{layer.title} has the activation {name!r}, which no recurrent operation of ONNX has. Known: "
            f"{', '.join(ACTIVATIONS)}. --format npz writes the weights of any model."
        )
    return ACTIVATIONS[name]


def _last(graph: Graph, name: str, outputs: str, ends: Sequence[int]) -> list[str]:
    """Return the output of each way at its last step, by the place of that, (n, units)."""
    found = []
    for way, end in enumerate(ends):
        place = graph.constant(f"{name}/{way}/end", np.array(end, np.int64))
        number = graph.constant(f"{name}/{way}/way", np.array(way, np.int64))
        of_step = graph.add("Gather", outputs, place, name=f"{name}/{way}/last", axis=0)
        found.append(graph.add("Gather", of_step, number, name=f"{name}/{way}/alone", axis=0))
    return found


def _each(graph: Graph, name: str, outputs: str, ways: int) -> list[str]:
    """Return the outputs of each way at all steps (n, steps, units)."""
    found = []
    for way in range(ways):
        number = graph.constant(f"{name}/{way}/way", np.array(way, np.int64))
        alone = graph.add("Gather", outputs, number, name=f"{name}/{way}/alone", axis=1)
        found.append(graph.add("Transpose", alone, name=f"{name}/{way}/samples", perm=[1, 0, 2]))
    return found


def _recurrent(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    outputs = _add(graph, layer.name, [layer], tensor)
    if not layer.return_sequences:
        return _last(graph, layer.name, outputs, [0 if layer.go_backwards else shape[0] - 1])[0]
    (sequence,) = _each(graph, layer.name, outputs, 1)
    if not layer.go_backwards:
        return sequence
    turned = graph.constant(f"{layer.name}/turned", np.arange(shape[0], dtype=np.int64)[::-1].copy())
    return graph.add("Gather", sequence, turned, name=f"{layer.name}/backwards", axis=1)


def _bidirectional(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = layer.name
    outputs = _add(graph, name, layer.ways, tensor)
    if layer.inner.return_sequences:
        parts = _each(graph, name, outputs, 2)
    else:
        parts = _last(graph, name, outputs, [shape[0] - 1, 0])
    if layer.merge_mode == "concat":
        return graph.add("Concat", *parts, name=f"{name}/merged", axis=-1)
    merged = graph.add("Mul" if layer.merge_mode == "mul" else "Add", *parts, name=f"{name}/merged")
    return graph.add("Mul", merged, graph.number(0.5), name=f"{name}/mean") if layer.merge_mode == "ave" else merged


LAYERS: Mapping[type[Layer], AddLayer] = {
    SimpleRNN: _recurrent,
    LSTM: _recurrent,
    GRU: _recurrent,
    Bidirectional: _bidirectional,
}
