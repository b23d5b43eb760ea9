"""Losses on PyTorch's tensors are those of NumPy mode: values and gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from hpcnn.backends.torch.losses import sample_losses
from hpcnn.errors import DataError, ModelError
from hpcnn.nn import Context
from hpcnn.nn.losses import CTC, Contrastive, MeanSquaredError, SparseCategoricalCrossentropy
from hpcnn.nn.native import NATIVE
from hpcnn.nn.plain import NUMPY
from tests.nn.cases import LOSSES, LOSSES_BEHIND_HEADS
from tests.nn.cases.losses import fitting_logits, loss_case
from tests.nn.helpers import normal
from tests.nn.test_ctc import LABELS
from tests.require import require


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    require("torch").set_num_threads(1)


def compare(loss, head, logits, targets, weights):
    """Compare values and gradients with NumPy mode."""
    torch = require("torch")
    tensor = torch.from_numpy(logits.copy()).requires_grad_()
    terms = sample_losses(loss, tensor, torch.from_numpy(targets.copy()), head)
    assert terms.shape == (len(logits),)
    (terms if weights is None else terms * torch.from_numpy(weights)).sum().backward()
    ctx = Context()
    ours, _, backward = ctx.arithmetic.loss(ctx, loss.bind(head), logits.copy(), targets, weights)
    same(terms.detach().numpy() * (1 if weights is None else weights), ours)
    same(tensor.grad.numpy(), backward())


def same(theirs, ours):
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12 * np.abs(ours).max(initial=0))


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


@pytest.mark.parametrize("name", ["mse", "sparse", "sparse_ignoring", "dice"])
def test_losses_without_samples(name):
    logits, targets = loss_case(LOSSES[name], (2, 4))
    compare(LOSSES[name], "softmax", logits[:0], targets[:0], None)
    compare(CTC(), "softmax", np.zeros((0, 5, 3)), np.zeros((0, 2), int), None)


def test_logarithm_of_cosh_is_exact_near_0():
    torch = require("torch")
    error = torch.tensor([[1e-6]], requires_grad=True)
    sample_losses(LOSSES["log_cosh"], error, torch.zeros(1, 1)).backward()
    assert float(error.grad) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("arithmetic", [NATIVE, NUMPY], ids=["native", "numpy"])
def test_contrastive_loss_is_the_one_of_pytorch(arithmetic):
    """NumPy mode alone has it, but PyTorch has its parts."""
    torch = require("torch")
    f, x = torch.nn.functional, normal(9, 2, 5)
    outputs = torch.from_numpy(x).clone().requires_grad_()
    first, second = f.normalize(outputs, dim=2).unbind(1)
    scores, own = first @ second.T / 0.2, torch.arange(9)
    total = (f.cross_entropy(scores, own, reduction="sum") + f.cross_entropy(scores.T, own, reduction="sum")) / 2
    total.backward()
    ours, _, backward = Contrastive(0.2).bind("linear")(x, np.empty(9), None, Context(arithmetic=arithmetic))
    assert ours == pytest.approx(float(total.detach()), rel=1e-10)
    np.testing.assert_allclose(backward(), outputs.grad, rtol=1e-10, atol=1e-10)


@dataclass(frozen=True)
class CubedError(MeanSquaredError):
    name: ClassVar[str] = "cubed"


def test_messages():
    torch = require("torch")
    logits = torch.zeros(2, 3)
    with pytest.raises(ModelError, match=r"the loss 'cubed' is one that PyTorch mode has not\. Known: mse, mae"):
        sample_losses(CubedError(), logits, logits)
    for wrong in (3, -100):
        with pytest.raises(DataError, match=rf"the labels of 3 classes are 0 to 2, but one is {wrong}\. Give"):
            sample_losses(SparseCategoricalCrossentropy(), logits, torch.tensor([0, wrong]), "softmax")
    with pytest.raises(DataError, match=r"the labels of 4 classes are 1 to 3, with 0 for the blank"):
        sample_losses(CTC(), torch.zeros(1, 5, 4), torch.tensor([[1, 4]]), "softmax")
