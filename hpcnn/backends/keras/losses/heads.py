"""What a symbolic tensor comes from: the activation that a loss may be stable behind."""

from __future__ import annotations

from typing import Any

HEADS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}
"""TensorFlow's operations, and the names that the job file has for them."""
_ENDINGS = {
    **HEADS,
    "Elu": "elu",
    "LeakyRelu": "leaky_relu",
    "LogSoftmax": "log_softmax",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    **dict.fromkeys(("BiasAdd", "Conv2D", "Conv3D"), "linear"),
}
_PRODUCTS = ("BatchMatMulV2", "Einsum", "MatMul")
_PASSED = ("ExpandDims", "Identity", "Reshape", "Squeeze", "Transpose")
"""Operations that keep the values of their first input."""


def head_of(outputs: Any) -> str:
    """Return the name of the activation that a symbolic tensor comes from; ``linear`` if it is none that matters."""
    return HEADS.get(outputs.op.type, "linear")


def ending_of(outputs: Any) -> str | None:
    """Return the name of the last activation before a symbolic tensor; None if it can't be told."""
    operation = outputs.op
    while operation.type in _PASSED:
        operation = operation.inputs[0].op
    if operation.type == "AddV2":  # of a bias, or of a block's input
        return "linear" if "linear" in map(ending_of, operation.inputs) else None
    if operation.type in _PRODUCTS:  # of probabilities, the mean of some distributions may be one itself
        return None if any(map(_is_of_probabilities, operation.inputs)) else "linear"
    return _ENDINGS.get(operation.type)


def _is_of_probabilities(tensor: Any) -> bool:
    """Return whether a symbolic tensor is one of probabilities, or a product in which there are some."""
    operation = tensor.op
    while operation.type in _PASSED:
        operation = operation.inputs[0].op
    return operation.type in HEADS or (operation.type in _PRODUCTS and any(map(_is_of_probabilities, operation.inputs)))
