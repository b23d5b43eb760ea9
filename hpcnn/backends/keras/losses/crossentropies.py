"""Cross-entropies, of outputs and of logits, and with a factor (1 - p)^gamma."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcnn.nn.losses import EPSILON


def binary(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the cross-entropy of each output."""
    import tensorflow as tf

    t, p = smooth_pairs(loss, targets), tf.clip_by_value(outputs, EPSILON, 1 - EPSILON)
    return -t * tf.math.log(p) - (1 - t) * tf.math.log(1 - p)


def binary_logits(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the cross-entropy of each output, from logits."""
    import tensorflow as tf

    return tf.nn.sigmoid_cross_entropy_with_logits(labels=smooth_pairs(loss, targets), logits=logits)


def smooth_pairs(loss: Any, targets: Any) -> Any:
    """Return targets with a share spread over two classes."""
    return targets * (1 - loss.label_smoothing) + loss.label_smoothing / 2 if loss.label_smoothing else targets


def categorical(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the cross-entropy of each position."""
    import tensorflow as tf

    p = outputs / tf.reduce_sum(outputs, axis=-1, keepdims=True)
    p = tf.clip_by_value(p, EPSILON, 1 - EPSILON)
    return -tf.reduce_sum(smooth_rows(loss, targets) * tf.math.log(p), axis=-1)


def categorical_logits(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the cross-entropy of each position, from logits."""
    import tensorflow as tf

    targets = smooth_rows(loss, targets)

    def crossentropy(logits: Any) -> Any:
        log_p = tf.nn.log_softmax(logits)

        def gradient(dy: Any) -> Any:
            total = tf.reduce_sum(targets, axis=-1, keepdims=True)
            return dy[..., tf.newaxis] * (tf.exp(log_p) * total - targets)

        return -tf.reduce_sum(targets * log_p, axis=-1), gradient

    return tf.custom_gradient(crossentropy)(logits)  # fewer operations than TensorFlow's own


def smooth_rows(loss: Any, targets: Any) -> Any:
    """Return targets with a share spread over all classes."""
    share = loss.label_smoothing / targets.shape[-1]
    return targets * (1 - loss.label_smoothing) + share if loss.label_smoothing else targets


def of_labels(rows_loss: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Return a loss of rows as one of labels."""

    def of_labels(loss: Any, outputs: Any, targets: Any) -> Any:
        import tensorflow as tf

        return rows_loss(loss, outputs, tf.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype))

    return of_labels


sparse, sparse_logits = of_labels(categorical), of_labels(categorical_logits)


def binary_focal(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the focal loss of each output."""
    import tensorflow as tf

    t, p = smooth_pairs(loss, targets), tf.clip_by_value(outputs, EPSILON, 1 - EPSILON)
    terms = (t + p * (1 - 2 * t)) ** loss.gamma * binary(loss, outputs, targets)
    return terms * (t * loss.alpha + (1 - t) * (1 - loss.alpha)) if loss.apply_class_balancing else terms


def categorical_focal(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the focal loss of each position."""
    import tensorflow as tf

    p = outputs / tf.reduce_sum(outputs, axis=-1, keepdims=True)
    p = tf.clip_by_value(p, EPSILON, 1 - EPSILON)
    factor = -loss.alpha * (1 - p) ** loss.gamma
    return tf.reduce_sum(factor * smooth_rows(loss, targets) * tf.math.log(p), axis=-1)
