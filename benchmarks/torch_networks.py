"""Networks as PyTorch's modules: for training loops of its own, and for the `model.entry` of a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from benchmarks.problem import BATCH, NETWORKS, make_data
from benchmarks.torch_side import load_torch
from hpcnn.comm.protocol import Array


@dataclass(frozen=True)
class TorchNetwork:
    """A function of this module that returns a network, and what it is trained on."""

    function: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    """Of one sample."""
    batch: int
    """Samples per step and rank."""
    samples: int

    @property
    def entry(self) -> str:
        """The function, as `model.entry` names it."""
        return f"{__name__}:{self.function}"

    def make(self) -> Any:
        """Return the network."""
        return globals()[self.function](self.shape, **self.options)

    def data(self) -> tuple[Array, Array]:
        """Return random inputs and labels."""
        x, y = make_data((prod(self.shape), 10), self.samples)
        return x.reshape(-1, *self.shape), y


def dense(input_shape: Sequence[int], widths: Sequence[int]) -> Any:
    """Return dense layers with relu between them."""
    nn = load_torch().nn
    layers = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def cnn(input_shape: Sequence[int]) -> Any:
    """Return a small convolutional network for images of 28 x 28."""
    nn = load_torch().nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def resnet18(input_shape: Sequence[int]) -> Any:
    """Return a ResNet-18 for images of 32 x 32."""
    nn = load_torch().nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
                nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
            )  # fmt: skip
            same = before == after and stride == 1
            self.skip = nn.Identity() if same else nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.skip(x))

    blocks, before = [], 64
    for after, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        blocks.append(Block(before, after, stride))
        before = after
    stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


TORCH_NETWORKS = {
    **{
        name: TorchNetwork("dense", {"widths": list(widths)}, widths[:1], BATCH, 64 * BATCH)
        for name, widths in NETWORKS.items()
    },
    "CNN 28x28": TorchNetwork("cnn", {}, (1, 28, 28), BATCH, 64 * BATCH),
    "ResNet-18 32x32": TorchNetwork("resnet18", {}, (3, 32, 32), 8, 16 * BATCH),
}
