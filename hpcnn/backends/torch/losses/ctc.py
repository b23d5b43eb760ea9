"""Connectionist temporal classification, by PyTorch's own operation."""

from __future__ import annotations

from typing import Any

from hpcnn.nn.losses.ctc import BLANK


def ctc(loss: Any, logits: Any, targets: Any) -> Any:
    """Return the loss of each sample; its labels end at the first that is none."""
    import torch
    from torch.nn import functional as f

    if not torch.compiler.is_compiling():
        loss.check_targets(logits, targets.cpu().numpy())  # PyTorch reads beyond the logits of a step
    if not logits.shape[0]:
        return logits.sum((1, 2))  # PyTorch takes one sample at least
    lengths = (targets > BLANK).long().cumprod(1).sum(1)
    labels = targets if targets.shape[1] else targets.new_zeros(targets.shape[0], 1)
    steps = torch.full_like(lengths, logits.shape[1])
    log_p = f.log_softmax(logits, -1).transpose(0, 1)
    return f.ctc_loss(log_p, labels, steps, lengths, blank=BLANK, reduction="none")
