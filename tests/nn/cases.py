"""The tables that several tests of nn run through: a new layer or loss is one line here."""

from __future__ import annotations

from hpcnn.nn import Activation, Dense, Dropout, Flatten, LayerNorm, Reshape, Residual
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.nn.losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossentropy,
)

LAYERS = {
    "dense": (Dense("l", 4), (3,)),
    "dense_no_bias": (Dense("l", 4, use_bias=False), (3,)),
    "dense_relu": (Dense("l", 4, activation="relu"), (3,)),
    "dense_gelu_no_bias": (Dense("l", 4, activation="gelu", use_bias=False), (3,)),
    "dense_softmax": (Dense("l", 4, activation="softmax"), (3,)),
    "dense_one_unit": (Dense("l", 1, activation="tanh"), (3,)),
    "dense_3d": (Dense("l", 4, activation="softmax"), (2, 5, 3)),
    "activation": (Activation("l", "swish"), (2, 3)),
    "flatten": (Flatten("l"), (2, 3)),
    "reshape": (Reshape("l", (3, 2)), (6,)),
    "reshape_inferred": (Reshape("l", (2, -1)), (3, 4)),
    "dropout": (Dropout("l", 0.4), (20,)),
    "dropout_0": (Dropout("l", 0.0), (20,)),
    "layer_norm": (LayerNorm("l"), (5,)),
    "layer_norm_3d": (LayerNorm("l"), (2, 5)),
    "layer_norm_no_center": (LayerNorm("l", center=False), (5,)),
    "layer_norm_no_scale": (LayerNorm("l", scale=False, epsilon=0.1), (5,)),
    "layer_norm_bare": (LayerNorm("l", center=False, scale=False), (5,)),
    "residual": (Residual("l", (Dense("i", 6, activation="relu"), Dropout("j", 0.2), Dense("k", 3))), (3,)),
    "residual_in_place": (Residual("l", (Activation("i", "tanh"),)), (3,)),
    "residual_identity": (Residual("l", (Dropout("i", 0.0),)), (3,)),
    "residual_nested": (Residual("l", (Residual("i", (LayerNorm("j"),)), Dense("k", 3))), (2, 3)),
}

LOSSES = {
    "mse": MeanSquaredError(),
    "mae": MeanAbsoluteError(),
    "huber": Huber(),
    "huber_small": Huber(delta=0.3),
    "binary": BinaryCrossentropy(),
    "binary_smooth": BinaryCrossentropy(label_smoothing=0.2),
    "categorical": CategoricalCrossentropy(),
    "categorical_smooth": CategoricalCrossentropy(label_smoothing=0.2),
    "sparse": SparseCategoricalCrossentropy(),
    "sparse_smooth": SparseCategoricalCrossentropy(label_smoothing=0.2),
}

_WAYS = [(outputs, weighted) for outputs in ((3,), (2, 4)) for weighted in (False, True)]
LOSSES_BEHIND_HEADS = [
    (name, head, *way)
    for i, (name, loss) in enumerate(LOSSES.items())
    for j, head in enumerate(ACTIVATIONS)
    for k, way in enumerate(_WAYS)
    if k == (i + j) % len(_WAYS) or head == loss.fused_head
]
"""Each loss behind each head. Shapes of outputs and weights take turns, but for a head that has code of its own."""
