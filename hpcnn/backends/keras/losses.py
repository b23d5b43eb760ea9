"""The losses of the job file on TensorFlow's tensors, as `hpcnn.nn.losses` has them: one value a sample, to be summed.

Where the model ends in the activation that a loss is stable behind, the loss works on what that activation was given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hpcnn.nn.loss import Loss
from hpcnn.nn.losses import EPSILON

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


def sample_losses(loss: Loss, outputs: Any, targets: Any) -> Any:
    """Return the loss of each sample, shape (n,).

    Args:
        loss: which one.
        outputs: of the model, a symbolic tensor of shape (n, *output_shape).
        targets: of the same shape and type, or integer labels (n, *output_shape[:-1]).
    """
    import tensorflow as tf

    of_outputs, of_logits = LOSSES[loss.name]
    if of_logits is not None and head_of(outputs) == loss.fused_head:
        terms = of_logits(loss, outputs.op.inputs[0], targets)
    else:
        terms = of_outputs(loss, outputs, targets)
    row = math.prod(terms.shape[1:])
    return tf.reshape(terms, [-1]) if row == 1 else tf.reduce_mean(tf.reshape(terms, [-1, row]), axis=1)


def sum_of(losses: Any, weights: Any = None) -> Any:
    """Return the float64 sum of losses x weights."""
    import tensorflow as tf

    losses = tf.cast(losses, tf.float64)
    return tf.reduce_sum(losses if weights is None else losses * tf.cast(weights, tf.float64))


def _mse(loss: Any, outputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    return tf.math.squared_difference(outputs, targets)


def _mae(loss: Any, outputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    return tf.abs(outputs - targets)


def _huber(loss: Any, outputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    error = outputs - targets
    clipped = tf.clip_by_value(error, -loss.delta, loss.delta)
    return clipped * (error - 0.5 * clipped)


def _binary(loss: Any, outputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    t, p = _smooth_pairs(loss, targets), tf.clip_by_value(outputs, EPSILON, 1 - EPSILON)
    return -t * tf.math.log(p) - (1 - t) * tf.math.log(1 - p)


def _binary_logits(loss: Any, logits: Any, targets: Any) -> Any:
    import tensorflow as tf

    return tf.nn.sigmoid_cross_entropy_with_logits(labels=_smooth_pairs(loss, targets), logits=logits)


def _smooth_pairs(loss: Any, targets: Any) -> Any:
    return targets * (1 - loss.label_smoothing) + loss.label_smoothing / 2 if loss.label_smoothing else targets


def _categorical(loss: Any, outputs: Any, targets: Any) -> Any:
    import tensorflow as tf

    p = outputs / tf.reduce_sum(outputs, axis=-1, keepdims=True)
    p = tf.clip_by_value(p, EPSILON, 1 - EPSILON)
    return -tf.reduce_sum(_smooth_rows(loss, targets) * tf.math.log(p), axis=-1)


def _categorical_logits(loss: Any, logits: Any, targets: Any) -> Any:
    import tensorflow as tf

    targets = _smooth_rows(loss, targets)

    def crossentropy(logits: Any) -> Any:
        log_p = tf.nn.log_softmax(logits)

        def gradient(dy: Any) -> Any:
            total = tf.reduce_sum(targets, axis=-1, keepdims=True)
            return dy[..., tf.newaxis] * (tf.exp(log_p) * total - targets)

        return -tf.reduce_sum(targets * log_p, axis=-1), gradient

    return tf.custom_gradient(crossentropy)(logits)  # fewer operations than TensorFlow's own


def _smooth_rows(loss: Any, targets: Any) -> Any:
    share = loss.label_smoothing / targets.shape[-1]
    return targets * (1 - loss.label_smoothing) + share if loss.label_smoothing else targets


def _of_labels(rows_loss: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Return a loss of rows as one of labels."""

    def of_labels(loss: Any, outputs: Any, targets: Any) -> Any:
        import tensorflow as tf

        return rows_loss(loss, outputs, tf.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype))

    return of_labels


_Terms = Callable[[Any, Any, Any], Any]
LOSSES: dict[str, tuple[_Terms, _Terms | None]] = {
    "mse": (_mse, None),
    "mae": (_mae, None),
    "huber": (_huber, None),
    "binary_crossentropy": (_binary, _binary_logits),
    "categorical_crossentropy": (_categorical, _categorical_logits),
    "sparse_categorical_crossentropy": (_of_labels(_categorical), _of_labels(_categorical_logits)),
}
"""``(loss, outputs, targets) -> terms``, of any shape (n, ...): of outputs, and of logits where that is stable."""
