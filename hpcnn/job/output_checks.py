"""Checks that the loss and the metrics fit the last activation of the network."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.errors import JobError

CLASS_METRICS = (
    "accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy", "top_k_accuracy",
    "precision", "recall", "f1", "iou", "mean_iou", "perplexity", "auc", "confusion_matrix",
)  # fmt: skip
PROBABILITIES = ("sigmoid", "softmax")
_POSITIVE = ("softmax", "sigmoid", "softplus")
"""Activations with positive outputs, which the losses below normalise. Outputs of relu may all be 0."""
_FITTING = {
    "binary_crossentropy": PROBABILITIES,
    "categorical_crossentropy": _POSITIVE,
    "sparse_categorical_crossentropy": _POSITIVE,
    "binary_focal_crossentropy": PROBABILITIES,
    "categorical_focal_crossentropy": _POSITIVE,
    "kl_divergence": PROBABILITIES,
    "dice": PROBABILITIES,
    "iou": PROBABILITIES,
}
"""By loss of probabilities, the last activations that it works with."""
_FUSED = ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy")
_COUNTS = ("softplus", "sigmoid", "softmax", "relu")
_LOGITS = ("softmax", "linear")


def check_ending(loss: str, ending: str | None, place: str = "loss") -> None:
    """Raise JobError unless a loss works with the last activation of a network; None: it is not known.

    `place` is that of the loss in the job file, as ``losses.digit``.
    """
    if ending is None:
        return
    if loss == "poisson" and ending not in _COUNTS:
        raise JobError(
            f'{place}.name = "poisson" needs outputs of at least 0, but the network ends in activation = "{ending}", '
            'whose outputs may be below. End it in activation = "softplus", or choose another loss, as "mse".'
        )
    if loss == "ctc" and ending not in _LOGITS:
        raise JobError(
            f'{place}.name = "ctc" works on logits, but the network ends in activation = "{ending}". End it in '
            'activation = "softmax", or in "linear": the loss is the same, and the outputs of the first are '
            "probabilities."
        )
    fitting = _FITTING.get(loss)
    if fitting is None or ending in fitting:
        return
    best = "sigmoid" if loss.startswith("binary_") or loss in ("dice", "iou") else "softmax"
    together = ""
    if loss in _FUSED:
        together = ", also where another library would take from_logits: the two are computed together, from the logits"
    raise JobError(
        f'{place}.name = "{loss}" needs probabilities, but the network ends in activation = "{ending}", whose outputs '
        f'are not probabilities. End it in activation = "{best}"{together}. For numbers use "mse", "mae" or "huber".'
    )


def check_class_metrics(
    loss: str, ending: str | None, metrics: Sequence[str], *, one_hot: bool, place: str = ""
) -> None:
    """Raise JobError if a metric needs classes, but the loss and the last activation are those of a regression.

    `place` is that of the loss in the job file, where there are several.
    """
    metric = next((metric for metric in metrics if metric in CLASS_METRICS), None)
    if metric is None or loss in _FITTING or one_hot or ending is None or ending in PROBABILITIES:
        return
    raise JobError(
        f'{place or "train"}.metrics has "{metric}", which needs classes, but {place or "loss"}.name = "{loss}" and a '
        "last layer "
        'without "sigmoid" or "softmax" are those of a regression: use "mae", "mse" or "r2", or another loss'
    )
