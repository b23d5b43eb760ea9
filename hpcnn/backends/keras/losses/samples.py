"""The losses of the job file on TensorFlow's tensors, as `hpcnn.nn.losses` has them: one value a sample, to be summed.

Where the model ends in the activation that a loss is stable behind, the loss works on what that activation was given.
"""

from __future__ import annotations

import math
from typing import Any

from hpcnn.backends.keras.losses import crossentropies, overlaps, regressions
from hpcnn.backends.keras.losses.ctc import ctc
from hpcnn.backends.keras.losses.heads import head_of
from hpcnn.backends.loss_terms import loss_terms
from hpcnn.nn.loss import Loss


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
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        return _mean_of_counted(terms, targets != ignored)
    row = math.prod(terms.shape[1:])
    return tf.reshape(terms, [-1]) if row == 1 else tf.reduce_mean(tf.reshape(terms, [-1, row]), axis=1)


def _mean_of_counted(terms: Any, counted: Any) -> Any:
    """Return each sample's mean of the terms that count; 0 if there are none."""
    import tensorflow as tf

    row = [-1, math.prod(terms.shape[1:])]
    kept = tf.reshape(tf.where(counted, terms, tf.zeros_like(terms)), row)
    number = tf.reduce_sum(tf.reshape(tf.cast(counted, terms.dtype), row), axis=1)
    return tf.reduce_sum(kept, axis=1) / tf.maximum(number, 1)


def sum_of(losses: Any, weights: Any = None) -> Any:
    """Return the float64 sum of losses x weights."""
    import tensorflow as tf

    losses = tf.cast(losses, tf.float64)
    return tf.reduce_sum(losses if weights is None else losses * tf.cast(weights, tf.float64))


LOSSES = loss_terms(regressions, crossentropies, overlaps, ctc)
"""``(loss, outputs, targets) -> terms``, of outputs, and of logits where that is stable."""
