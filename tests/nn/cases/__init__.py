"""The tables that several tests of nn run through: a new layer or loss is one line here."""

from __future__ import annotations

from hpcnn.nn import Activation, Dense, Dropout, Flatten, LayerNorm, Reshape, Residual
from tests.nn.cases import attention, convolution, normalization, recurrent, shapes, spectral
from tests.nn.cases.losses import LOSSES, LOSSES_BEHIND_HEADS

__all__ = ["KERAS", "KERAS_BY_SHAPE", "KERAS_FLOAT32", "LAYERS", "LOSSES", "LOSSES_BEHIND_HEADS"]

FAMILIES = (attention, convolution, normalization, shapes, spectral)
"""Each has LAYERS, as below, and KERAS: class -> ``(keras, layer, type) -> layer of Keras``."""
LAYERS = {
    "dense": (Dense(4, name="l"), (3,)),
    "dense_no_bias": (Dense(4, use_bias=False, name="l"), (3,)),
    "dense_relu": (Dense(4, activation="relu", name="l"), (3,)),
    "dense_gelu_no_bias": (Dense(4, activation="gelu", use_bias=False, name="l"), (3,)),
    "dense_softmax": (Dense(4, activation="softmax", name="l"), (3,)),
    "dense_one_unit": (Dense(1, activation="tanh", name="l"), (3,)),
    "dense_3d": (Dense(4, activation="softmax", name="l"), (2, 5, 3)),
    "activation": (Activation("swish", name="l"), (2, 3)),
    "flatten": (Flatten(name="l"), (2, 3)),
    "reshape": (Reshape((3, 2), name="l"), (6,)),
    "reshape_inferred": (Reshape((2, -1), name="l"), (3, 4)),
    "dropout": (Dropout(0.4, name="l"), (20,)),
    "dropout_0": (Dropout(0.0, name="l"), (20,)),
    "layer_norm": (LayerNorm(name="l"), (5,)),
    "layer_norm_3d": (LayerNorm(name="l"), (2, 5)),
    "layer_norm_no_center": (LayerNorm(center=False, name="l"), (5,)),
    "layer_norm_no_scale": (LayerNorm(scale=False, epsilon=0.1, name="l"), (5,)),
    "layer_norm_bare": (LayerNorm(center=False, scale=False, name="l"), (5,)),
    "residual": (
        Residual((Dense(6, activation="relu", name="i"), Dropout(0.2, name="j"), Dense(3, name="k")), name="l"),
        (3,),
    ),
    "residual_in_place": (Residual((Activation("tanh", name="i"),), name="l"), (3,)),
    "residual_identity": (Residual((Dropout(0.0, name="i"),), name="l"), (3,)),
    "residual_nested": (Residual((Residual((LayerNorm(name="j"),), name="i"), Dense(3, name="k")), name="l"), (2, 3)),
}
LAYERS |= recurrent.LAYERS | {name: case for family in FAMILIES for name, case in family.LAYERS.items()}
KERAS = {kind: make for family in FAMILIES if family is not shapes for kind, make in family.KERAS.items()}
KERAS_BY_SHAPE = shapes.KERAS
"""``(keras, layer, shape of its samples, type) -> layer of Keras``."""
KERAS_FLOAT32 = shapes.KERAS_FLOAT32
"""The cases that TensorFlow does not compute in float64 on a CPU."""
