"""The losses of the job file on PyTorch's tensors, as `hpcnn.nn.losses` has them: one value a sample, to be summed."""

from __future__ import annotations

from typing import Any

from hpcnn.backends.loss_terms import loss_terms
from hpcnn.backends.torch.layers import activation
from hpcnn.backends.torch.losses import crossentropies, overlaps, regressions
from hpcnn.backends.torch.losses.ctc import ctc
from hpcnn.errors import ModelError
from hpcnn.nn.loss import Loss


def sample_losses(loss: Loss, outputs: Any, targets: Any, head: str = "linear") -> Any:
    """Return the loss of each sample, shape (n,).

    Args:
        loss: which one.
        outputs: of the model without its last activation, shape (n, *output_shape).
        targets: of the same shape and type, or integer labels (n, *output_shape[:-1]), or sequences of them.
        head: the last activation. Where the loss is stable behind it, the loss is computed from what it is given.

    Raises:
        DataError: a label is none of the classes.
        ModelError: PyTorch mode does not have the loss.
    """
    if loss.name not in LOSSES:
        raise ModelError(
            f"the loss {loss.name!r} is one that PyTorch mode has not. Known: {', '.join(LOSSES)}. Choose one of them, "
            'or set backend = "numpy".'
        )
    of_outputs, of_logits = LOSSES[loss.name]
    if of_logits is not None and head == loss.fused_head:
        terms = of_logits(loss, outputs, targets)
    else:
        act = activation(head)
        terms = of_outputs(loss, outputs if act is None else act(outputs), targets)
    ignored = getattr(loss, "ignore_class", None)
    if ignored is not None:
        return _mean_of_counted(terms, targets != ignored)
    return terms if terms.ndim == 1 else terms.flatten(1).mean(1)


def _mean_of_counted(terms: Any, counted: Any) -> Any:
    """Return each sample's mean of the terms that count; 0 if there are none."""
    counted = _row(counted)
    return (_row(terms) * counted).sum(1) / counted.sum(1).clamp_min(1)


def _row(terms: Any) -> Any:
    return terms.flatten(1) if terms.ndim > 1 else terms[:, None]


LOSSES = loss_terms(regressions, crossentropies, overlaps, ctc)
"""``(loss, outputs, targets) -> terms``, of outputs, and of logits where that is stable."""
