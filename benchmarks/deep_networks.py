"""Networks of convolutions, recurrence and attention, as layers of jobs; `benchmarks.deep_torch` has the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcnn.job import layers
from hpcnn.job.layers import kinds
from hpcnn.job.model import BinaryCrossentropy, Loss, SparseCategoricalCrossentropy

Array = NDArray[np.generic]
Layers = list[kinds.Layer]
STEPS = 4
"""Batches of an epoch on one rank: enough to shuffle, few enough to stay in memory."""


@dataclass(frozen=True)
class DeepNetwork:
    """A network, and what it is trained on."""

    batch: int
    """Samples per step and rank."""
    layers: Callable[[], Layers]
    loss: Loss
    data: Callable[[int], tuple[Array, Array]]
    """``samples -> (inputs, targets)``."""


def images(shape: tuple[int, ...]) -> Callable[[int], tuple[Array, Array]]:
    """Return what makes random images of ten classes, or random sequences."""

    def make(samples: int) -> tuple[Array, Array]:
        random = np.random.default_rng(0)
        return random.random((samples, *shape), dtype=np.float32), random.integers(0, 10, samples)

    return make


def masked_images(samples: int) -> tuple[Array, Array]:
    """Return random images, and a mask of each."""
    random = np.random.default_rng(0)
    x = random.random((samples, 64, 64, 3), dtype=np.float32)
    return x, (random.random((samples, 64, 64, 1)) > 0.5).astype(np.float32)


VOCABULARY, LENGTH = 128, 128


def text(samples: int) -> tuple[Array, Array]:
    """Return random sequences of ids, and for each the same one place later."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (samples, LENGTH + 1))
    return ids[:, :-1].astype(np.float32), ids[:, 1:]


# ------------------------------------------------------------------------------------------------------------ Networks


def convolutional() -> Layers:
    """Return two convolutions, pooling, and two dense layers."""
    return [
        layers.Conv2D(filters=32, kernel_size=3, activation="relu"),
        layers.Conv2D(filters=64, kernel_size=3, activation="relu"),
        layers.MaxPooling(),
        layers.Flatten(),
        layers.Dense(units=128, activation="relu"),
        layers.Dense(units=10, activation="softmax"),
    ]


RESNET_WIDTHS, RESNET_BLOCKS = (16, 32, 64), 3


def resnet20() -> Layers:
    """Return ResNet-20 for images of 32 x 32 (He et al., 2016), with projections where the shape changes."""

    def convolved(filters: int, size: int = 3, strides: int = 1, inputs: tuple[str, ...] = ()) -> Iterator[kinds.Layer]:
        yield layers.Conv2D(
            filters=filters, kernel_size=size, strides=strides, padding="same", use_bias=False, inputs=list(inputs)
        )

    def relu(name: str) -> kinds.Layer:
        return layers.ActivationLayer(activation="relu", name=name)

    net: Layers = [*convolved(RESNET_WIDTHS[0]), layers.BatchNormalization(), relu("start")]
    before, width = "start", RESNET_WIDTHS[0]
    for filters in RESNET_WIDTHS:
        for number in range(RESNET_BLOCKS):
            name, strides = f"w{filters}_{number}", 1 if filters == width else 2
            shortcut = before
            if strides > 1:
                shortcut = f"{name}_shortcut"
                net += convolved(filters, 1, strides, (before,))
                net.append(layers.BatchNormalization(name=shortcut))
            net += convolved(filters, 3, strides, (before,))
            net += [layers.BatchNormalization(), layers.ActivationLayer(activation="relu")]
            net += convolved(filters)
            net.append(layers.BatchNormalization(name=f"{name}_sum_of"))
            net += [layers.Add(inputs=[f"{name}_sum_of", shortcut]), relu(name)]
            before, width = name, filters
    return [*net, layers.GlobalAveragePooling(), layers.Dense(units=10, activation="softmax")]


UNET_WIDTHS = (16, 32, 64, 128)


def unet() -> Layers:
    """Return a U-Net of four levels (Ronneberger et al., 2015) whose convolutions keep the size of images."""

    def twice(filters: int, name: str) -> Layers:
        first, second = (
            layers.Conv2D(filters=filters, kernel_size=3, padding="same", activation="relu", name=each)
            for each in (f"{name}_first", name)
        )
        return [first, second]

    net: Layers = []
    for filters in UNET_WIDTHS[:-1]:
        net += [*twice(filters, f"down_{filters}"), layers.MaxPooling()]
    net += twice(UNET_WIDTHS[-1], "bottom")
    for filters in reversed(UNET_WIDTHS[:-1]):
        up = f"up_{filters}"
        net.append(layers.Conv2DTranspose(filters=filters, kernel_size=2, strides=2, name=f"{up}_wider"))
        net.append(layers.Concatenate(inputs=[f"down_{filters}", f"{up}_wider"]))
        net += twice(filters, up)
    return [*net, layers.Conv2D(filters=1, kernel_size=1, activation="sigmoid")]


UNITS, FEATURES, RECURRENCES = 256, 32, 2


def lstm() -> Layers:
    """Return two LSTMs and a dense layer for the last step."""
    return [
        layers.LSTM(units=UNITS, return_sequences=True),
        layers.LSTM(units=UNITS),
        layers.Dense(units=10, activation="softmax"),
    ]


WIDTH, HEADS, HIDDEN, DEPTH = 256, 8, 1024, 4


def transformer() -> Layers:
    """Return a causal transformer that predicts the next id at each place, normalised before each part."""
    attention: Layers = [
        layers.LayerNorm(),
        layers.MultiHeadAttention(num_heads=HEADS, key_dim=WIDTH // HEADS, causal=True),
    ]
    hidden: Layers = [
        layers.LayerNorm(),
        layers.Dense(units=HIDDEN, activation="gelu"),
        layers.Dense(units=WIDTH),
    ]
    block: Layers = [kinds.Residual(layers=attention), kinds.Residual(layers=hidden)]
    return [
        layers.Embedding(input_dim=VOCABULARY, output_dim=WIDTH),
        layers.PositionalEmbedding(),
        kinds.Block(layers=block, repeat=DEPTH),
        layers.LayerNorm(),
        layers.Dense(units=VOCABULARY, activation="softmax"),
    ]


LABELS = SparseCategoricalCrossentropy()
DEEP = {
    "CNN 28x28": DeepNetwork(128, convolutional, LABELS, images((28, 28, 1))),
    "ResNet-20 32x32": DeepNetwork(128, resnet20, LABELS, images((32, 32, 3))),
    "U-Net 64x64": DeepNetwork(16, unet, BinaryCrossentropy(), masked_images),
    "LSTM 2x256": DeepNetwork(32, lstm, LABELS, images((64, FEATURES))),
    "transformer 4x256": DeepNetwork(16, transformer, LABELS, text),
}
