"""50 steps with layers and losses in PyTorch mode against NumPy mode, the ones that Keras mode is tested with."""

from __future__ import annotations

import pytest

from hpcnn.backends.torch.layers import to_torch
from hpcnn.backends.torch.model import TorchModel
from hpcnn.backends.torch.network import TorchNetwork
from tests.nn import two_modes
from tests.nn.cases import LAYERS, LOSSES, recurrent
from tests.torch.modes import torch_backend

PART = 0.5
"""Of the tolerance of Keras mode."""


@pytest.fixture(scope="module", autouse=True)
def backend():
    with torch_backend() as started:
        yield started


def model_of(network, loss, sums, vector):
    """Return the model of a network in PyTorch mode."""
    dtype, shapes = str(vector.dtype), (network.input_shape, network.output_shape)
    module, names = to_torch(network, dtype)
    endings = network.head, network.ending
    built = TorchNetwork(module, names, network.layout, shapes, dtype, "test", endings=endings, parts=network)
    return TorchModel(built, loss, sums, vector)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, ("float32", "float64")[place % 2])  # the types take turns, as they do in Keras mode for recurrent layers
        for place, name in enumerate(LAYERS)
        if name not in recurrent.RARE
    ],
)
def test_layer(name: str, dtype: str) -> None:
    two_modes.train_with_layer(name, dtype, model_of, PART)


@pytest.mark.parametrize("dtype", two_modes.TOLERANCE)
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str, dtype: str) -> None:
    two_modes.train_with_loss(name, dtype, model_of, PART)
