"""Losses that are a function of output and target, one value an output."""

from __future__ import annotations

from typing import Any

from hpcnn.nn.losses import EPSILON


def mse(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return (output - target)^2."""
    import tensorflow as tf

    return tf.math.squared_difference(outputs, targets)


def mae(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return |output - target|."""
    import tensorflow as tf

    return tf.abs(outputs - targets)


def huber(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the error's square, or its size where that is large."""
    import tensorflow as tf

    error = outputs - targets
    clipped = tf.clip_by_value(error, -loss.delta, loss.delta)
    return clipped * (error - 0.5 * clipped)


def mape(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the error in percent of the target."""
    import tensorflow as tf

    return 100 * tf.abs(outputs - targets) / tf.maximum(tf.abs(targets), EPSILON)


def msle(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the squared error of the logarithms."""
    import tensorflow as tf

    ours, theirs = (tf.math.log1p(tf.maximum(each, EPSILON)) for each in (outputs, targets))
    return tf.math.squared_difference(ours, theirs)


def log_cosh(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return log(cosh(output - target))."""
    import tensorflow as tf

    error = outputs - targets

    def of_error(error: Any) -> Any:
        size = tf.abs(error)
        return size + tf.math.log1p(0.5 * tf.math.expm1(-2 * size)), lambda dy: dy * tf.tanh(error)

    return tf.custom_gradient(of_error)(error)


def poisson(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return output - target log(output)."""
    import tensorflow as tf

    return outputs - targets * tf.math.log(outputs + EPSILON)


def hinge(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return max(0, 1 - t output)."""
    import tensorflow as tf

    side = tf.where(targets > 0, tf.ones_like(targets), -tf.ones_like(targets))
    return tf.nn.relu(1 - side * outputs)
