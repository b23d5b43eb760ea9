"""Attention of a sequence to itself, and to another."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.layers.base import Initializer, LayerSection
from hpcnn.job.section import PositiveInt


class _Attention(LayerSection, frozen=True, kw_only=True):
    num_heads: PositiveInt
    """Number of heads."""
    key_dim: PositiveInt
    """Width of a head's queries and keys."""
    value_dim: PositiveInt | None = None
    """Width of a head's values; default: `key_dim`."""
    num_kv_heads: PositiveInt | None = None
    """Number of heads of keys and values, which groups of heads share; default: `num_heads`."""
    output_dim: PositiveInt | None = None
    """Width of the output; default: that of the (first) input."""
    use_bias: bool = True
    """Whether to add biases."""
    causal: bool = False
    """Whether a position sees those up to itself alone."""
    kernel_initializer: Initializer = "glorot_uniform"
    """Initializer of the kernels."""
    bias_initializer: Literal["zeros", "ones"] = "zeros"
    """Initializer of the biases."""
    trainable: bool = True
    """`false` freezes the layer."""


class MultiHeadAttention(_Attention, frozen=True, kw_only=True, tag="multi_head_attention"):
    """Attention of a sequence (length, features) to itself."""


class CrossAttention(_Attention, frozen=True, kw_only=True, tag="cross_attention"):
    """Attention of a query to a value and, if it is another, a key; the last input may be a mask of padding."""
