"""Connectionist temporal classification, by TensorFlow's own operation, which computes in float32."""

from __future__ import annotations

from typing import Any


def ctc(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the loss of each sample."""
    import tensorflow as tf

    labels = tf.cast(tf.maximum(targets, 0), tf.int32)
    terms = tf.nn.ctc_loss(
        labels=labels,
        logits=tf.cast(logits, tf.float32),
        label_length=tf.math.count_nonzero(labels, axis=1, dtype=tf.int32),
        logit_length=tf.repeat(tf.shape(logits)[1], tf.shape(logits)[0]),
        logits_time_major=False,
        blank_index=0,
    )
    return tf.cast(terms, logits.dtype)
