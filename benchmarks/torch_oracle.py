"""What PyTorch computes of layers and losses, beside both arithmetics of hpcnn, in float64: outputs and gradients.

python -m benchmarks.torch_oracle

For what Keras computes in another way or not at all. It ends with exit code 1 if a difference exceeds 1e-10 of the
largest number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as f

from hpcnn.nn import (
    GRU,
    Activation,
    Context,
    Conv1DTranspose,
    Conv2DTranspose,
    Dropout,
    GroupNormalization,
    Layer,
    Network,
    RMSNormalization,
    UpSampling,
)
from hpcnn.nn.loss import Loss
from hpcnn.nn.losses import CTC, BinaryFocalCrossentropy, CategoricalFocalCrossentropy, Contrastive, KLDivergence
from hpcnn.nn.native import NATIVE
from hpcnn.nn.plain import NUMPY

TOLERANCE = 1e-10
Array = NDArray[Any]
Tensor = Any
Formula = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
LossFormula = Callable[[Tensor, Tensor], Tensor]


def channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def gru(x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    """Reorder the gates z, r, h to PyTorch's r, z, n."""

    def reordered(kernel: Tensor) -> Tensor:
        z, r, h = kernel.chunk(3, dim=-1)
        return torch.cat([r, z, h], dim=-1)

    weights = [reordered(p["kernel"]).T, reordered(p["recurrent_kernel"]).T, *reordered(p["bias"])]
    start = torch.zeros(1, len(x), len(p["recurrent_kernel"]), dtype=x.dtype)
    return torch.gru(x, start, weights, True, 1, 0.0, False, False, True)[0]


def transposed(strides: int, *, same: bool) -> Formula:
    """Return PyTorch's transposed convolution; with "same", its whole output without what lies over the edges."""

    def formula(x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
        kernel = p["kernel"].movedim((-1, -2), (0, 1))
        axes = kernel.ndim - 2
        convolve = f.conv_transpose1d if axes == 1 else f.conv_transpose2d
        y = convolve(channels_first(x), kernel, p["bias"], stride=strides)
        for axis in range(2, 2 + axes) if same else ():
            size = x.shape[axis - 1] * strides
            y = y.narrow(axis, (y.shape[axis] - size) // 2, size)
        return y.movedim(1, -1)

    return formula


def upsampled(x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    return f.interpolate(channels_first(x), scale_factor=(3, 2), mode="bilinear", align_corners=False).movedim(1, -1)


def group_norm(x: Tensor, p: Mapping[str, Tensor]) -> Tensor:
    return f.group_norm(channels_first(x), 3, p["gamma"], p["beta"], 1e-3).movedim(1, -1)


LAYERS: dict[str, tuple[Layer, tuple[int, ...], Formula]] = {
    "gru, reset_after": (GRU(5, return_sequences=True, name="l"), (7, 4), gru),
    "group_normalization": (GroupNormalization(3, name="l"), (4, 5, 6), group_norm),
    "rms_normalization": (
        RMSNormalization(epsilon=1e-6, name="l"), (4, 6), lambda x, p: f.rms_norm(x, (6,), p["scale"], 1e-6)
    ),
    "conv1d_transpose": (Conv1DTranspose(3, 4, strides=2, name="l"), (6, 2), transposed(2, same=False)),
    "conv2d_transpose": (Conv2DTranspose(3, 3, strides=2, name="l"), (4, 5, 2), transposed(2, same=False)),
    "conv2d_transpose, same": (
        Conv2DTranspose(3, 5, strides=3, padding="same", name="l"), (4, 5, 2), transposed(3, same=True)
    ),
    "up_sampling, bilinear": (UpSampling((3, 2), "bilinear", name="l"), (4, 5, 2), upsampled),
    "gelu": (Activation("gelu", name="l"), (9,), lambda x, p: f.gelu(x)),
}  # fmt: skip


def ctc(logits: Tensor, labels: Tensor) -> Tensor:
    steps, lengths = torch.full((len(logits),), logits.shape[1]), (labels > 0).sum(dim=1)
    return f.ctc_loss(f.log_softmax(logits, -1).movedim(1, 0), labels, steps, lengths, reduction="none")


def info_nce(outputs: Tensor, _: Tensor) -> Tensor:
    first, second = f.normalize(outputs, dim=2).unbind(1)
    scores, own = first @ second.T / 0.2, torch.arange(len(outputs))
    return (f.cross_entropy(scores, own, reduction="none") + f.cross_entropy(scores.T, own, reduction="none")) / 2


def binary_focal(logits: Tensor, y: Tensor) -> Tensor:
    p = logits.sigmoid()
    right = y * p + (1 - y) * (1 - p)
    return ((1 - right) ** 2 * f.binary_cross_entropy_with_logits(logits, y, reduction="none")).mean(1)


def categorical_focal(logits: Tensor, y: Tensor) -> Tensor:
    return -(0.25 * (1 - logits.softmax(1)) ** 2 * y * f.log_softmax(logits, 1)).sum(1)


def kl(logits: Tensor, y: Tensor) -> Tensor:
    return f.kl_div(f.log_softmax(logits, 1), y, reduction="none").sum(1)


def rows(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


ONE_HOT = np.eye(4)[[0, 3, 1, 1, 2]]
PROBABILITIES = np.exp(rows(3, 5, 4)) / np.exp(rows(3, 5, 4)).sum(axis=1, keepdims=True)
LABELS = np.array([[1, 2, 2, 0], [3, 0, 0, 0], [1, 3, 1, 2]])
LOSSES: dict[str, tuple[Loss, str, Array, Array, LossFormula]] = {
    "ctc": (CTC(), "softmax", rows(1, 3, 8, 4), LABELS, ctc),
    "contrastive": (Contrastive(0.2), "linear", rows(2, 9, 2, 5), np.empty(9), info_nce),
    "kl_divergence": (KLDivergence(), "softmax", rows(4, 5, 4), PROBABILITIES, kl),
    "binary_focal_crossentropy": (BinaryFocalCrossentropy(), "sigmoid", rows(5, 5, 4), ONE_HOT, binary_focal),
    "categorical_focal_crossentropy": (
        CategoricalFocalCrossentropy(), "softmax", rows(6, 5, 4), ONE_HOT, categorical_focal
    ),
}  # fmt: skip


def difference(ours: Array, theirs: Tensor) -> float:
    """Return the largest difference, over the largest number."""
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    return float(abs(ours - expected).max() / abs(expected).max())


def of_layer(layer: Layer, shape: tuple[int, ...], formula: Formula, context: Context) -> float:
    network = Network([layer, Dropout(0.0)], shape)  # which keeps the layer's activation within the network
    vector, gradient = rows(0, network.layout.size), np.empty(network.layout.trainable_size)
    params, grads = network.layout.views(vector), network.layout.gradient_views(gradient)
    theirs = {name.split("/")[1]: torch.tensor(value, requires_grad=True) for name, value in params.items()}
    x = torch.tensor(rows(7, 3, *shape), requires_grad=True)
    expected = formula(x, theirs)
    dy = rows(8, *expected.shape)
    expected.backward(torch.tensor(dy))
    context.begin(training=True)
    y, backward = network.forward(params, x.detach().numpy(), context)
    worst = difference(y, expected)
    dx = backward(dy, grads, need_dx=True)
    assert dx is not None
    return max(worst, difference(dx, x.grad), *(difference(grads[f"l/{n}"], each.grad) for n, each in theirs.items()))


def of_loss(loss: Loss, head: str, z: Array, y: Array, formula: LossFormula, context: Context) -> float:
    logits = torch.tensor(z, requires_grad=True)
    expected = formula(logits, torch.tensor(y)).sum()
    expected.backward()
    context.begin(training=True)
    total, _, backward = loss.bind(head)(z, y, None, context)
    return max(difference(np.array(total), expected), difference(backward(), logits.grad))


def main() -> int:
    worst = 0.0
    print(f"{'largest difference, PyTorch ' + torch.__version__:44}{'native':>12}{'numpy':>12}")
    for name in (*LAYERS, *LOSSES):
        found = []
        for arithmetic in (NATIVE, NUMPY):
            context = Context(arithmetic=arithmetic)
            found.append(of_layer(*LAYERS[name], context) if name in LAYERS else of_loss(*LOSSES[name], context))
        worst = max(worst, *found)
        print(f"{name:44}{found[0]:12.1e}{found[1]:12.1e}")
    return int(not worst <= TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
