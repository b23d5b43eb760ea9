"""Networks as PyTorch modules compute what NumPy mode computes: outputs, gradients, new state, 50 steps."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.backends.torch.layers import to_torch
from tests.nn.cases import LAYERS
from tests.nn.helpers import alone, normal
from tests.require import require

N = 4


def torch_passes(network, params, x, dy, dtype, *, training):
    """Return outputs before the last activation, the gradients of inputs and parameters, and new state."""
    torch = require("torch")
    module, names = to_torch(network, np.dtype(dtype).name)
    module.load_state_dict({name: torch.from_numpy(params[own].copy()) for name, own in names.items()})
    module.train(training)
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    y = module(tensor, logits=True)
    y.backward(torch.from_numpy(dy.copy()))
    learning = {names[name]: each for name, each in module.named_parameters() if each.requires_grad}
    found = {"y": y.detach(), "dx": torch.zeros_like(tensor) if tensor.grad is None else tensor.grad}
    found |= {own: each.grad for own, each in learning.items()}
    found |= {names[name]: each for name, each in module.named_buffers() if training}
    return {name: each.numpy() for name, each in found.items()}


def numpy_passes(model, x, dy, *, training):
    """Return the same of NumPy mode."""
    state = {spec.name: np.zeros(spec.shape) for spec in model.network.state}
    model.ctx.begin(training=training, random_key=(1, 2), new_state=state)
    y, backward = model.network.forward(model.params, x.copy(), model.ctx)
    y = y.copy()
    dx = backward(dy.copy(), model.grads, need_dx=True)
    return {"y": y, "dx": dx, **model.grads, **(state if training else {})}


def close(ours, theirs, tolerance, what):
    """Compare arrays, each with its largest number; where that is 0 but for rounding, with a part of the largest."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(array).max(initial=0) for array in theirs.values())
    for name, array in theirs.items():
        allowed = tolerance * (np.abs(array).max(initial=0) + 1e-3 * largest)
        difference = np.abs(np.asarray(ours[name], np.float64) - array).max(initial=0)
        assert difference <= allowed, f"{what}, {name}: {difference} > {allowed}"


DRAWS = ("dropout", "spatial_dropout_1d", "spatial_dropout_2d", "spatial_dropout_3d", "gaussian_noise", "residual")


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    layer, shape = LAYERS[name]
    model = alone(layer, shape).shake()
    x, dy = normal(N, *shape), normal(N, *model.network.output_shape, seed=1)
    for training in (False,) if name in DRAWS else (False, True):
        theirs = numpy_passes(model, x, dy, training=training)
        close(torch_passes(model.network, model.params, x, dy, np.float64, training=training), theirs, 1e-12, name)
