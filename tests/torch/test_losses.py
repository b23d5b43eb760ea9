"""Losses on PyTorch's tensors are those of NumPy mode: values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.backends.torch.losses import sample_losses
from hpcnn.nn import Context
from hpcnn.nn.losses import CTC
from tests.nn.cases import LOSSES, LOSSES_BEHIND_HEADS
from tests.nn.cases.losses import fitting_logits, loss_case
from tests.nn.helpers import normal
from tests.nn.test_ctc import LABELS
from tests.require import require


def compare(loss, head, logits, targets, weights):
    """Compare values and gradients with NumPy mode."""
    torch = require("torch")
    tensor = torch.from_numpy(logits.copy()).requires_grad_()
    terms = sample_losses(loss, tensor, torch.from_numpy(targets.copy()), head)
    assert terms.shape == (len(logits),)
    (terms if weights is None else terms * torch.from_numpy(weights)).sum().backward()
    ctx = Context()
    ours, _, backward = ctx.arithmetic.loss(ctx, loss.bind(head), logits.copy(), targets, weights)
    theirs = terms.detach().numpy() * (1 if weights is None else weights)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12 * np.abs(ours).max())
    gradient = backward()
    np.testing.assert_allclose(tensor.grad, gradient, rtol=1e-12, atol=1e-12 * np.abs(gradient).max())


@pytest.mark.parametrize(("name", "head", "outputs", "weighted"), LOSSES_BEHIND_HEADS)
def test_loss_behind_each_head(name, head, outputs, weighted):
    loss = LOSSES[name]
    logits, targets = loss_case(loss, outputs)
    weights = np.array([0.5, 0, 2, 1, 1, 3]) if weighted else None
    compare(loss, head, fitting_logits(loss, head, logits), targets, weights)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, :0]], ids=["labels", "none"])
@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_ctc(head, labels):
    compare(CTC(), head, 2 * normal(len(LABELS), 9, 4), labels, np.array([0.5, 0, 2, 1, 3]))
