"""Functions as users write them for `model.entry`, right ones and wrong ones. Imports Keras."""

from __future__ import annotations

import keras
from keras import layers

from hpcnn.nn import Dense, Flatten, Network


def normalized(input_shape, width=16):
    """Batch normalisation, dropout, an L2 penalty and a layer of one's own."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(width, kernel_regularizer="l2"),
            layers.BatchNormalization(momentum=0.8),
            Noise(0.1),
            layers.Activation("relu"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )


@keras.saving.register_keras_serializable()
class Noise(layers.Layer):
    """Adds what it draws in training, times a weight that it learns."""

    def __init__(self, deviation):
        super().__init__()
        self.deviation = deviation
        self.generator = keras.random.SeedGenerator(7)

    def build(self, input_shape):
        self.strength = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="strength")

    def call(self, x, training=False):
        if not training:
            return x
        noise = keras.random.normal(keras.ops.shape(x), stddev=self.deviation, dtype=x.dtype, seed=self.generator)
        return x + self.strength * noise


def wide(input_shape):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(8, "relu"), layers.Dense(3, "softmax")])


def ending_in(input_shape, last=None, use_bias=True, after=""):
    """A model with a chosen last activation, and maybe a layer after it."""
    made = keras.Sequential(
        [keras.Input(input_shape), layers.Dense(8, "relu"), layers.Dense(3, activation=last, use_bias=use_bias)]
    )
    if after == "reshape":
        made.add(layers.Reshape((3,)))
    if after == "shares":
        made.add(layers.Lambda(lambda x: keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), axis=-1, keepdims=True)))
    if after == "confusions":  # those of noisy labels, once and again: rows of probabilities
        rows = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
        made.add(layers.Lambda(lambda x: keras.ops.matmul(keras.ops.matmul(x, rows), rows)))
    if after == "dense":
        made.add(layers.Dense(3))
    return made


def mixture(input_shape):
    """Experts, of whose answers a gate takes the mean."""
    x = keras.Input(input_shape)
    experts = keras.ops.stack([layers.Dense(3, "softmax")(x) for _ in range(4)], axis=1)
    gate = layers.Dense(4, "softmax")(x)
    return keras.Model(x, layers.Dot(axes=(1, 1))([gate, experts]))


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3)

    def call(self, x):
        return keras.ops.softmax(self.inner(x))


def subclass(input_shape):
    model = Subclass()
    model(keras.ops.zeros((1, *input_shape)))
    return model


def of_hpcnn(input_shape):
    return Network([Flatten(name="flat"), Dense(3, name="out")], input_shape, "softmax")


# ---------------------------------------------------------------------------------------------------------- wrong ones


def not_built(input_shape):
    return keras.Sequential([layers.Dense(3)])


def not_quite_built(input_shape):
    import warnings

    model = Subclass()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's own word on this
        model.build((None, *input_shape))
    return model


def no_model(input_shape):
    return 3


def other_shape(input_shape):
    return keras.Sequential([keras.Input((99,)), layers.Dense(3)])


def two_inputs(input_shape):
    first, second = keras.Input(input_shape), keras.Input(input_shape)
    return keras.Model([first, second], layers.Dense(3)(first + second))


def two_outputs(input_shape):
    x = keras.Input(input_shape)
    return keras.Model(x, [layers.Dense(3)(x), layers.Dense(3)(x)])


def other_dtype(input_shape):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(3, dtype="float64")])


def mixed(input_shape):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(3, dtype="mixed_bfloat16")])


def constrained(input_shape):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(3, kernel_constraint="max_norm")])


def odd_penalty(input_shape):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(3, kernel_regularizer="orthogonal_regularizer")])


def own_loss(input_shape):
    return keras.Sequential([keras.Input(input_shape), layers.Dense(3, activity_regularizer="l2")])


class GlobalNoise(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), dtype=x.dtype)


def global_noise(input_shape):
    return keras.Sequential([keras.Input(input_shape), GlobalNoise(), layers.Dense(3)])


class Broken(layers.Layer):
    def call(self, x, training=False):
        if training:
            raise RuntimeError("out of order")
        return x


def broken(input_shape):
    return keras.Sequential([keras.Input(input_shape), Broken(), layers.Dense(3)])
