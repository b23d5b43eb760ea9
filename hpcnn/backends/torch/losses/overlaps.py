"""Losses that compare whole rows: one value a position, or a sample."""

from __future__ import annotations

from typing import Any

from hpcnn.nn.losses import EPSILON


def kl_divergence(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return the divergence of each position."""
    p, t = (each.clamp(EPSILON, 1) for each in (outputs, targets))
    return (t * (t / p).log()).sum(-1)


def cosine_similarity(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return minus the cosine of each position."""
    from torch.nn import functional as f

    ours, theirs = (f.normalize(each, dim=-1, eps=EPSILON) for each in (outputs, targets))
    return -(ours * theirs).sum(-1)


def dice(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return 1 - the Dice coefficient of each sample."""
    both, either = _areas(outputs, targets)
    return 1 - 2 * both / (either + EPSILON)


def iou(loss: Any, outputs: Any, targets: Any) -> Any:
    """Return 1 - the Jaccard index of each sample."""
    both, either = _areas(outputs, targets)
    return 1 - both / (either - both + EPSILON)


def _areas(outputs: Any, targets: Any) -> tuple[Any, Any]:
    p, t = outputs.flatten(1), targets.flatten(1)
    return (p * t).sum(1), p.sum(1) + t.sum(1)
