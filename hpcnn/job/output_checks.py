"""The last activation of a network, and the losses and metrics that make sense of it."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.errors import JobError

CLASS_METRICS = (
    "accuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "sparse_categorical_accuracy",
    "top_k_accuracy",
    "precision",
    "recall",
    "f1",
    "confusion_matrix",
)
PROBABILITIES = ("sigmoid", "softmax")
_POSITIVE = ("softmax", "sigmoid", "softplus")
"""Positive outputs, which these losses divide by their sum. Outputs of relu may all be 0."""
_FITTING = {
    "binary_crossentropy": PROBABILITIES,
    "categorical_crossentropy": _POSITIVE,
    "sparse_categorical_crossentropy": _POSITIVE,
}
"""By loss, the last activations that it can learn behind. Losses that are not here take any."""


def check_ending(loss: str, ending: str | None) -> None:
    """Check that a loss can go with a network's last activation; None: that is not known, and may be right.

    Raises:
        JobError: it can't.
    """
    fitting = _FITTING.get(loss)
    if fitting is None or ending is None or ending in fitting:
        return
    best = "sigmoid" if loss == "binary_crossentropy" else "softmax"
    raise JobError(
        f'loss.name = "{loss}" needs probabilities, but the network ends in activation = "{ending}", whose outputs are '
        f'not: it would train to nonsense. End it in activation = "{best}", also where another library would take '
        'from_logits: the two are computed together, from the logits. For numbers use "mse", "mae" or "huber".'
    )


def check_class_metrics(loss: str, ending: str | None, metrics: Sequence[str], *, one_hot: bool) -> None:
    """Check that there are classes where metrics need them.

    Raises:
        JobError: the loss and the last activation make a regression.
    """
    metric = next((metric for metric in metrics if metric in CLASS_METRICS), None)
    if metric is None or loss in _FITTING or one_hot or ending is None or ending in PROBABILITIES:
        return
    raise JobError(
        f'train.metrics has "{metric}", which needs classes, but loss.name = "{loss}" and a last layer '
        'without "sigmoid" or "softmax" make a regression: use "mae", "mse" or "r2", or another loss'
    )
