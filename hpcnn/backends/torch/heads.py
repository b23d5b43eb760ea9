"""Activations behind a module's outputs: what a loss is stable behind, and what the outputs of `hpcnn predict` are."""

from __future__ import annotations

from typing import Any

from hpcnn.errors import ModelError
from hpcnn.job import model as schema

_ENDINGS = {
    "SoftmaxBackward0": "softmax",
    "SigmoidBackward0": "sigmoid",
    "LogSoftmaxBackward0": "log_softmax",
    "ReluBackward0": "relu",
    "TanhBackward0": "tanh",
    "SoftplusBackward0": "softplus",
    "EluBackward0": "elu",
    "AddmmBackward0": "linear",
    "MmBackward0": "linear",
    "ConvolutionBackward0": "linear",
}
"""By name of PyTorch's own step back, the activations that the job file has."""
_PASSED = (
    "View",
    "UnsafeView",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Permute",
    "Clone",
    "Flatten",
    "ToCopy",
)
"""Operations that keep the values of their input."""
_SIGMOIDS = (schema.BinaryCrossentropy, schema.BinaryFocalCrossentropy, schema.Dice, schema.Iou)
_SOFTMAXES = (
    schema.CategoricalCrossentropy,
    schema.SparseCategoricalCrossentropy,
    schema.CategoricalFocalCrossentropy,
    schema.KLDivergence,
)
_CLOSE = 1e-3


def ending_of(outputs: Any) -> str | None:
    """Return the name of the last activation before a tensor; None if it can't be told."""
    step = outputs.grad_fn
    while step is not None:
        name = step.name()
        if name in _ENDINGS:
            return _ENDINGS[name]
        if not name.startswith(_PASSED):
            return None
        step = step.next_functions[0][0]
    return None


def head_of(loss: schema.Loss | None, ending: str | None, outputs: Any, source: str) -> str:
    """Return the activation that is put behind a module's outputs: they are logits, as PyTorch's own losses take them.

    None is, where the loss is not one of probabilities, or the module itself ends in a softmax or a sigmoid.

    Raises:
        ModelError: the outputs are probabilities that come from something else.
    """
    if ending in ("softmax", "sigmoid", "softplus", "log_softmax") or not isinstance(loss, _SIGMOIDS + _SOFTMAXES):
        return "linear"
    if isinstance(loss, _SIGMOIDS):
        return "sigmoid"
    sums = outputs.detach().double().sum(-1)
    if bool((outputs >= 0).all()) and bool(((sums - 1).abs() < _CLOSE).all()):
        raise ModelError(
            f"{source}: the outputs of the module are positive and sum to 1, as probabilities do, but do not come from "
            "a softmax. Return logits, such as torch.log(p), or end the module in torch.nn.Softmax(-1)."
        )
    return "softmax"
