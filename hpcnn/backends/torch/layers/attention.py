"""Attention, and embeddings of ids and of positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hpcnn.backends.torch.layers.making import Call, Make, Place, stateless
from hpcnn.nn.ids import check_ids
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import CrossAttention, Embedding, MultiHeadAttention, PaddingMask, PositionalEmbedding
from hpcnn.nn.sines import position_sines


def _embedding(place: Place) -> Call:
    import torch
    from torch.nn import functional as f

    table, layer = place.name("embeddings"), place.layer

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        if not torch.compiler.is_compiling():
            check_ids(x.detach().cpu().numpy(), layer.input_dim, layer.title)
        return f.embedding(x.long(), p[table])

    return call


def _positions(place: Place) -> Call:
    import torch

    if place.layer.encoding == "learned":
        table = place.name("embeddings")
        return lambda p, x, training: x + p[table]
    sines = torch.from_numpy(position_sines(*place.input_shape, np.dtype(place.dtype).char).copy())
    return stateless(lambda x: x + sines.to(x.device))


def _padding_mask(place: Place) -> Call:
    return stateless(lambda x: (x != 0).to(x.dtype))


def _attention(place: Place) -> Callable[[Mapping[str, Any], Any, Any, Any, Any], Any]:
    """Return ``(parameters, query, key, value, mask) -> y``."""
    import torch
    from torch.nn import functional as f

    layer, bias = place.layer, place.layer.use_bias
    names = [
        [place.name(f"{name}/{part}") for part in ("kernel", "bias")]
        for name in ("query", "key", "value", "attention_output")
    ]

    sizes = ((layer.num_heads, layer.key_dim), (layer.kv_heads, layer.key_dim), (layer.kv_heads, layer.values))

    def heads(p: Mapping[str, Any], x: Any, which: int) -> Any:
        """Return (n, heads, length, dim): those of keys and values once for each head of their group."""
        (kernel, own), (count, width) = names[which], sizes[which]
        made = f.linear(x, p[kernel].flatten(1).t(), p[own].flatten() if bias else None)
        made = made.reshape(*x.shape[:2], count, width).transpose(1, 2)
        return made if count == layer.num_heads else made.repeat_interleave(layer.num_heads // count, 1)

    def call(p: Mapping[str, Any], query: Any, key: Any, value: Any, mask: Any) -> Any:
        q, k, v = (heads(p, x, which) for which, x in enumerate((query, key, value)))
        seen, causal = None, layer.causal
        if mask is not None:
            seen = (mask != 0)[:, None, None]
            if causal:
                seen = seen & torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
            causal = False
        y = f.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal)
        kernel, own = names[3]
        return f.linear(y.transpose(1, 2).flatten(2), p[kernel].flatten(0, 1).t(), p[own] if bias else None)

    return call


def _self_attention(place: Place) -> Call:
    attend = _attention(place)
    return lambda p, x, training: attend(p, x, x, x, None)


def _cross_attention(place: Place) -> Call:
    attend, masked = _attention(place), len(place.input_shape[-1]) == 1

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        *sequences, mask = x if masked else (*x, None)
        value = sequences[1] if len(sequences) > 1 else sequences[0]
        return attend(p, sequences[0], sequences[-1], value, mask)

    return call


LAYERS: Mapping[type[Layer], Make] = {
    Embedding: _embedding,
    PositionalEmbedding: _positions,
    PaddingMask: _padding_mask,
    MultiHeadAttention: _self_attention,
    CrossAttention: _cross_attention,
}
