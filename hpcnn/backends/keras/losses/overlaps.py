"""Losses that compare whole rows: one value a position, or a sample."""

from __future__ import annotations

from typing import Any

from hpcnn.nn.losses import EPSILON


def kl_divergence(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the divergence of each position."""
    import tensorflow as tf

    p, t = (tf.clip_by_value(each, EPSILON, 1.0) for each in (outputs, targets))
    return tf.reduce_sum(t * tf.math.log(t / p), axis=-1)


def cosine_similarity(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return minus the cosine of each position."""
    import tensorflow as tf

    ours, theirs = (tf.math.l2_normalize(each, axis=-1, epsilon=EPSILON**2) for each in (outputs, targets))
    return -tf.reduce_sum(ours * theirs, axis=-1)


def dice(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return 1 - the Dice coefficient of each sample."""
    both, either = _areas(outputs, targets)
    return 1 - 2 * both / (either + EPSILON)


def iou(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return 1 - the Jaccard index of each sample."""
    both, either = _areas(outputs, targets)
    return 1 - both / (either - both + EPSILON)


def _areas(outputs: Any, targets: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    axes = list(range(1, len(outputs.shape)))
    both = tf.reduce_sum(outputs * targets, axis=axes)
    return both, tf.reduce_sum(outputs, axis=axes) + tf.reduce_sum(targets, axis=axes)
