"""Fifty steps of training of a network of each family: the weights are those of Keras."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.nn import (
    ELU,
    GRU,
    LSTM,
    Add,
    AveragePooling,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Cropping,
    CrossAttention,
    Dense,
    DepthwiseConv2D,
    Embedding,
    Flatten,
    GlobalAveragePooling,
    GroupNormalization,
    LayerNorm,
    MaxPooling,
    MultiHeadAttention,
    Multiply,
    Network,
    PaddingMask,
    Permute,
    PositionalEmbedding,
    PReLU,
    Residual,
    RMSNormalization,
    SeparableConv2D,
    Shared,
    SimpleRNN,
    TimeDistributed,
    UpSampling,
    ZeroPadding,
)
from hpcnn.runs.build import build_replica, build_spec
from tests.keras_type import keras_type
from tests.nn.helpers import normal
from tests.nn.keras_graphs import KerasGraph
from tests.require import require
from tests.small_jobs import cut, make_job

STEPS, SAMPLES, CLASSES, ENTRIES = 50, 12, 3, 9
TOLERANCE = 1e-8
"""Each step differs by a few times 1e-16 of the gradients; training multiplies what there is. Measured: below 1e-10."""
OPTIMIZERS = {
    "adam": ("Adam", {"learning_rate": 2**-6, "beta_1": 0.875, "beta_2": 1 - 2**-6, "epsilon": 2**-20}),
    "sgd": ("SGD", {"learning_rate": 2**-5, "momentum": 0.875}),
}
"""Numbers that float32 holds: Keras rounds settings to it, for float64, too."""
NETWORKS = {
    "dense": ((5,), [Dense(8, activation="tanh"), LayerNorm(), Residual([Dense(8, activation="gelu")]), Dense(6)]),
    "convolution": (
        (6, 6, 2),
        [
            Conv2D(4, 3, activation="swish"),
            DepthwiseConv2D(3, padding="same", depth_multiplier=2),
            Conv2DTranspose(3, 3, strides=2, activation="tanh"),
            SeparableConv2D(4, 3, strides=2, padding="same", activation="softplus"),
            GlobalAveragePooling(),
        ],
    ),
    "normalization": (
        (6, 5, 3),
        [
            Conv2D(6, 3),
            BatchNormalization(momentum=0.75),
            PReLU((1, 2)),
            GroupNormalization(3),
            Conv2D(4, 2),
            BatchNormalization(scale=False),
            RMSNormalization(),
            Flatten(),
        ],
    ),
    "shapes": (
        (7, 6, 2),
        [
            ZeroPadding(1),
            Conv2D(3, 3, activation="tanh"),
            MaxPooling(2),
            UpSampling(2),
            ELU(0.7),
            Cropping(1),
            AveragePooling(2, padding="same"),
            Permute((3, 1, 2)),
            Flatten(),
        ],
    ),
    "graph": (
        (5,),
        [
            Dense(5, activation="tanh", name="a"),
            Shared("a", name="b"),
            Multiply(inputs=("a", "b"), name="c"),
            Concatenate(inputs=("c", "input", "b"), name="d"),
            Dense(5, activation="elu", name="e"),
            Add(inputs=("e", "a"), name="f"),
        ],
    ),
    "attention": (
        (5, 4),
        [
            Dense(6),
            PositionalEmbedding(),
            Residual([LayerNorm(), MultiHeadAttention(2, 3, causal=True)]),
            MultiHeadAttention(4, 2, num_kv_heads=2),
            Flatten(),
        ],
    ),
    "embeddings": (
        (6,),
        [
            Embedding(ENTRIES, 4, name="e"),
            PaddingMask(name="m", inputs=("input",)),
            CrossAttention(2, 3, inputs=("e", "m")),
            Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
            GlobalAveragePooling(),
        ],
    ),
    "recurrent": (
        (3, 3),
        [
            LSTM(4, return_sequences=True),
            TimeDistributed([Dense(4, activation="tanh", name="t")]),
            SimpleRNN(4, return_sequences=True, go_backwards=True),
            Bidirectional([GRU(3, name="g")], merge_mode="ave"),
        ],
    ),
}


def network(input_shape, family):
    """Return the entry of a job."""
    return Network(layers_of(family), input_shape, "softmax")


def layers_of(family):
    """Return the layers before the softmax, with names of their own."""
    shape, layers = NETWORKS[family]
    return list(Network([*layers, Dense(CLASSES)], shape).layers)


def batch(family, step):
    """Return inputs and labels of a step."""
    shape = NETWORKS[family][0]
    rng = np.random.default_rng([step, 4])
    if family == "embeddings":
        x = rng.integers(0, ENTRIES, (SAMPLES, *shape)).astype(np.float64)
        x[:, 0] = np.maximum(x[:, 0], 1)
    else:
        x = normal(SAMPLES, *shape, seed=step)
    return x, rng.integers(0, CLASSES, SAMPLES)


@pytest.fixture
def keras():
    keras = require("keras")
    with keras_type(keras, "float64"):
        yield keras


def trained_by_keras(keras, family, optimizer, weights):
    """Return the weights, by our names, that Keras makes of `weights`."""
    import tensorflow as tf

    model = KerasGraph(SimpleNamespace(layers=layers_of(family)), weights, np.float64)
    model(tf.constant(batch(family, 0)[0]))
    kind, options = OPTIMIZERS[optimizer]
    theirs = getattr(keras.optimizers, kind)(**options)
    learning = [each for each in model.variables.values() if each.trainable]
    theirs.build(learning)

    @tf.function
    def step(x, labels):
        with tf.GradientTape() as tape:
            terms = keras.losses.sparse_categorical_crossentropy(labels, model(x, training=True), from_logits=True)
            total = tf.reduce_mean(terms)
        gradients = tape.gradient(total, [each.value for each in learning])
        theirs.apply([tf.convert_to_tensor(each) for each in gradients], learning)

    for number in range(STEPS):
        step(*map(tf.constant, batch(family, number)))
    return {name: np.asarray(each) for name, each in model.variables.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("family", NETWORKS)
def test_the_weights_are_those_of_keras(keras, family, optimizer):
    job = make_job(
        model={"layers": None, "entry": f"{__name__}:network", "options": {"family": family}},
        optimizer={"name": optimizer, **OPTIMIZERS[optimizer][1]},
        train={"dtype": "float64", "shards": 1},
    )
    shape = NETWORKS[family][0]
    replica = build_replica(job, build_spec(job, shape), SerialCommunicator())
    start = {name: array.copy() for name, array in replica.weights().items()}
    for step in range(STEPS):
        replica.train_step(step, cut(*batch(family, step), 1), factor=1.0)
    ours, theirs = replica.weights(), trained_by_keras(keras, family, optimizer, start)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    assert max(np.abs(array - start[name]).max() for name, array in ours.items()) > 0.02
