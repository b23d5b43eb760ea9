"""Cross-entropies, of outputs and of logits, and with a factor (1 - p)^gamma."""

from __future__ import annotations

from typing import Any

from hpcnn.nn.losses import EPSILON

NEVER = -(2**62)
"""What no label is: PyTorch leaves out a label of -100 unless told otherwise."""


def binary(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the cross-entropy of each output."""
    t, p = _smooth(loss, targets, 2), outputs.clamp(EPSILON, 1 - EPSILON)
    return -t * p.log() - (1 - t) * (1 - p).log()


def binary_logits(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the cross-entropy of each output, from logits."""
    from torch.nn import functional as f

    return f.binary_cross_entropy_with_logits(logits, _smooth(loss, targets, 2), reduction="none")


def categorical(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the cross-entropy of each position."""
    return -(_smooth(loss, targets, targets.shape[-1]) * _shares(outputs).log()).sum(-1)


def categorical_logits(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the cross-entropy of each position, from logits."""
    return -(_smooth(loss, targets, targets.shape[-1]) * logits.log_softmax(-1)).sum(-1)


def sparse(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the cross-entropy of each position, for labels."""
    return _of_labels(loss, _shares(outputs).log(), targets)


def sparse_logits(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the cross-entropy of each position, for labels and from logits."""
    return _of_labels(loss, logits.log_softmax(-1), targets)


def binary_focal(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the focal loss of each output."""
    t, p = _smooth(loss, targets, 2), outputs.clamp(EPSILON, 1 - EPSILON)
    terms = (t + p * (1 - 2 * t)) ** loss.gamma * binary(loss, outputs, targets)
    return terms * (t * loss.alpha + (1 - t) * (1 - loss.alpha)) if loss.apply_class_balancing else terms


def categorical_focal(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the focal loss of each position."""
    p = _shares(outputs)
    factor = -loss.alpha * (1 - p) ** loss.gamma
    return (factor * _smooth(loss, targets, targets.shape[-1]) * p.log()).sum(-1)


def _smooth(loss: Any, targets: Any, classes: int) -> Any:
    """Return targets with a share spread over all classes."""
    share = loss.label_smoothing
    return targets * (1 - share) + share / classes if share else targets


def _shares(outputs: Any) -> Any:
    """Return outputs divided by their sum, off 0 and 1."""
    return (outputs / outputs.sum(-1, keepdim=True)).clamp(EPSILON, 1 - EPSILON)


def _of_labels(loss: Any, log_p: Any, labels: Any) -> Any:
    """Return minus the logarithm at each label, and a share of all of them; 0 where a label is ignored."""
    from torch.nn import functional as f

    ignored = NEVER if loss.ignore_class is None else loss.ignore_class
    rows, flat = log_p.flatten(0, -2), labels.flatten()
    try:
        terms = f.nll_loss(rows, flat, ignore_index=ignored, reduction="none")
    except IndexError:
        loss.check_targets(rows, flat.cpu().numpy())  # which says more; of the rows, only the shape matters
        raise
    if loss.label_smoothing:
        spread = -rows.mean(-1) * (flat != ignored)
        terms = terms * (1 - loss.label_smoothing) + spread * loss.label_smoothing
    return terms if labels.ndim == 1 else terms.view(labels.shape)
