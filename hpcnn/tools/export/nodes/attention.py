"""Attention, and embeddings of ids and of positions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcnn.nn.layer import Layer, Shape
from hpcnn.nn.layers import CrossAttention, Embedding, MultiHeadAttention, PaddingMask, PositionalEmbedding
from hpcnn.nn.sines import position_sines
from hpcnn.tools.export.graph import KERNEL_TYPE, AddLayer, Array, Graph


def _embedding(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    from onnx import TensorProto

    ids = graph.add("Cast", tensor, name=f"{layer.name}/ids", to=TensorProto.INT64)
    return graph.add("Gather", graph.parameter(f"{layer.name}/embeddings"), ids, name=f"{layer.name}/rows", axis=0)


def _positions(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    name = f"{layer.name}/embeddings"
    if layer.encoding == "learned":
        table = graph.parameter(name)
    else:
        table = graph.constant(name, position_sines(*shape, np.dtype(KERNEL_TYPE).char))
    return graph.add("Add", tensor, table, name=f"{layer.name}/sum")


def _padding_mask(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    from onnx import TensorProto

    used = graph.add("Cast", tensor, name=f"{layer.name}/used", to=TensorProto.BOOL)
    return graph.add("Cast", used, name=f"{layer.name}/mask", to=TensorProto.FLOAT)


def _project(graph: Graph, layer: Any, projection: str, tensor: str, repeats: int = 1) -> str:
    """Multiply by the kernel (inputs, all heads), where each head stands `repeats` times, and add the bias."""
    name = f"{layer.name}/{projection}"

    def value(parameter: str, axis: int) -> Array:
        return np.repeat(graph.constants[graph.parameter(parameter)], repeats, axis)

    kernel = value(f"{name}/kernel", 1)
    rows = math.prod(kernel.shape[:-1]) if projection == "attention_output" else len(kernel)
    flat = graph.constant(f"{name}/kernel", kernel.reshape(rows, -1))
    y = graph.add("MatMul", tensor, flat, name=f"{name}/product")
    if not layer.use_bias:
        return y
    bias = graph.constant(f"{name}/bias", value(f"{name}/bias", 0).reshape(-1))
    return graph.add("Add", y, bias, name=f"{name}/sum")


def _by_head(graph: Graph, layer: Any, use: str, tensor: str, length: int, width: int, order: Sequence[int]) -> str:
    """Split rows (samples, length, all heads) into heads, and put the axes in another order."""
    name = f"{layer.name}/{use}"
    shape = graph.constant(f"{name}/shape", np.array([-1, length, layer.num_heads, width], np.int64))
    heads = graph.add("Reshape", tensor, shape, name=f"{name}/heads")
    return graph.add("Transpose", heads, name=f"{name}/turned", perm=list(order))


def _visible(graph: Graph, layer: Any, mask: str | None, queries: int, keys: int) -> str | None:
    """Return the tensor that says which keys a query sees; None if it sees all."""
    from onnx import TensorProto

    name, visible = layer.name, None
    if mask is not None:
        used = graph.add("Cast", mask, name=f"{name}/used", to=TensorProto.BOOL)
        axes = graph.constant(f"{name}/axes", np.array([1, 2], np.int64))
        visible = graph.add("Unsqueeze", used, axes, name=f"{name}/visible")
    if layer.causal:
        before = graph.constant(f"{name}/causal", np.arange(keys) <= np.arange(queries)[:, np.newaxis])
        visible = before if visible is None else graph.add("And", visible, before, name=f"{name}/both")
    return visible


def _attend(graph: Graph, layer: Any, tensors: Sequence[str], mask: str | None, lengths: tuple[int, int]) -> str:
    """Add the layer behind its query, key and value."""
    name, repeats, (queries, keys) = layer.name, layer.num_heads // layer.kv_heads, lengths
    projected = [
        _project(graph, layer, use, tensor, count)
        for use, tensor, count in zip(("query", "key", "value"), tensors, (1, repeats, repeats), strict=True)
    ]
    q = _by_head(graph, layer, "query", projected[0], queries, layer.key_dim, (0, 2, 1, 3))
    k = _by_head(graph, layer, "key", projected[1], keys, layer.key_dim, (0, 2, 3, 1))
    v = _by_head(graph, layer, "value", projected[2], keys, layer.values, (0, 2, 1, 3))
    scores = graph.add("MatMul", q, k, name=f"{name}/products")
    scores = graph.add("Mul", scores, graph.number(1 / math.sqrt(layer.key_dim)), name=f"{name}/scores")
    visible = _visible(graph, layer, mask, queries, keys)
    if visible is not None:
        scores = graph.add("Where", visible, scores, graph.number(-math.inf), name=f"{name}/seen")
    p = graph.add("Softmax", scores, name=f"{name}/softmax", axis=-1)
    if visible is not None:  # where nothing is seen the softmax is NaN
        p = graph.add("Where", visible, p, graph.number(0.0), name=f"{name}/probabilities")
    out = graph.add("MatMul", p, v, name=f"{name}/weighted")
    out = graph.add("Transpose", out, name=f"{name}/by_position", perm=[0, 2, 1, 3])
    shape = graph.constant(f"{name}/shape", np.array([-1, queries, layer.num_heads * layer.values], np.int64))
    out = graph.add("Reshape", out, shape, name=f"{name}/joined")
    return _project(graph, layer, "attention_output", out)


def _self_attention(graph: Graph, layer: Any, tensor: str, shape: Shape) -> str:
    return _attend(graph, layer, [tensor] * 3, None, (shape[0], shape[0]))


def add_cross_attention(graph: Graph, layer: Any, tensors: Sequence[str], shapes: Sequence[Shape]) -> str:
    """Add an attention of several inputs."""
    sequences = list(tensors)
    mask = sequences.pop() if len(shapes[-1]) == 1 else None
    value = sequences[min(1, len(sequences) - 1)]
    key = shapes[len(sequences) - 1]
    return _attend(graph, layer, [sequences[0], sequences[-1], value], mask, (shapes[0][0], key[0]))


LAYERS: Mapping[type[Layer], AddLayer] = {
    Embedding: _embedding,
    PositionalEmbedding: _positions,
    PaddingMask: _padding_mask,
    MultiHeadAttention: _self_attention,
    CrossAttention: add_cross_attention,
}
