"""Transformers: of ids to a class, of ids to the next ones, and of images to a class."""

from __future__ import annotations

from hpcnn.errors import ModelError, unknown_name
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import (
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling,
    LayerNorm,
    MultiHeadAttention,
    PositionalEmbedding,
    Reshape,
    Residual,
)

KINDS = ("encoder", "decoder", "vision")


def layers(
    kind: str = "encoder",
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    hidden: int = 256,
    vocabulary: int = 256,
    classes: int = 10,
    patch: int = 4,
    dropout: float = 0.0,
) -> list[Layer]:
    """Return a transformer (Vaswani et al., 2017) with layer normalisation first (Xiong et al., 2020).

    Args:
        kind: ``encoder``: ids (length,) to probabilities of classes, over the mean of all positions; ``decoder``: ids
            (length,) to those of the next id at each position, which sees those before it; ``vision``: images to those
            of classes (Dosovitskiy et al., 2021, with the mean of all patches).
        layers: number of blocks.
        width: length of the vector of a position; a multiple of `heads`.
        heads: number of heads of each attention.
        hidden: width of the hidden dense layer of a block.
        vocabulary: number of ids.
        classes: number of classes.
        patch: height and width of the patches of an image.
        dropout: rate behind each attention and each dense network.

    Raises:
        ModelError: there is no such kind, or `heads` does not divide `width`.

    >>> from hpcnn.nn import Network
    >>> Network(layers("decoder", vocabulary=20), (8,)).output_shape
    (8, 20)
    """
    if kind not in KINDS:
        unknown_name("kind of transformer", kind, KINDS, ModelError)
    if width % heads:
        raise ModelError(f"a transformer needs a width that is a multiple of its heads, but got {width} and {heads}")
    inputs: list[Layer] = [Embedding(vocabulary, width)]
    if kind == "vision":
        inputs = [Conv2D(width, patch, strides=patch), Reshape((-1, width))]
    blocks = [layer for _ in range(layers) for layer in _block(width, heads, hidden, dropout, causal=kind == "decoder")]
    found = [*inputs, PositionalEmbedding(), *blocks, LayerNorm()]
    if kind == "decoder":
        return [*found, Dense(vocabulary, activation="softmax")]
    return [*found, GlobalAveragePooling(), Dense(classes, activation="softmax")]


def _block(width: int, heads: int, hidden: int, dropout: float, *, causal: bool) -> list[Layer]:
    last: list[Layer] = [Dropout(dropout)] if dropout else []
    attention = MultiHeadAttention(heads, width // heads, causal=causal)
    network = [Dense(hidden, activation="gelu"), Dense(width)]
    return [Residual((LayerNorm(), attention, *last)), Residual((LayerNorm(), *network, *last))]
