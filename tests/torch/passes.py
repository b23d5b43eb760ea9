"""Passes of one network in NumPy mode and as a PyTorch module, and their training step by step."""

from __future__ import annotations

import numpy as np

from hpcnn.backends.torch.layers import to_torch
from hpcnn.backends.torch.losses import sample_losses
from hpcnn.nn import Context
from hpcnn.nn.several_losses import BoundLosses
from tests.require import require

RATE, MOMENTUM = 0.01, 0.9


def module_of(network, params):
    """Return the module of a network over the memory of `params`, and the name of our parameter for each of its own."""
    torch = require("torch")
    module, names = to_torch(network, next(iter(params.values())).dtype.name if params else "float64")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        tensor.data = torch.from_numpy(params[names[name]])
    return module, names


def given(network, x):
    """Return what the module of a network takes for a row of samples."""
    parts, start = [], 0
    for shape in network.inputs.values():
        parts.append(x[:, start : start + int(np.prod(shape))].reshape(-1, *shape))
        start += int(np.prod(shape))
    return parts or x


def torch_passes(network, params, x, dy, *, training, need_dx=True):
    """Return outputs before the last activation, the gradients of inputs and parameters, and new state.

    Inputs that need no gradient are another case: PyTorch has other code for them.
    """
    torch = require("torch")
    module, names = module_of(network, {name: value.copy() for name, value in params.items()})
    module.train(training)
    tensor = torch.from_numpy(x.copy()).requires_grad_(need_dx)
    y = module(given(network, tensor), logits=True)
    if y.requires_grad:
        y.backward(torch.from_numpy(dy.copy()))
    found = {"y": y}
    if need_dx:
        found["dx"] = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
    found |= {names[name]: each.grad for name, each in module.named_parameters() if each.requires_grad}
    found |= {names[name]: each for name, each in module.named_buffers() if training}
    return {name: each.detach().numpy() for name, each in found.items()}


def numpy_passes(network, params, x, dy, *, training, need_dx=True):
    """Return the same of NumPy mode."""
    ctx, grads = Context(), network.layout.gradient_views(np.empty(network.layout.trainable_size, x.dtype))
    state = {spec.name: np.zeros(spec.shape) for spec in network.state}
    ctx.begin(training=training, random_key=(1, 2), new_state=state)
    y, backward = network.forward(params, x.copy(), ctx)
    y = y.copy()
    dx = backward(dy.copy(), grads, need_dx=need_dx)
    return {"y": y, **({"dx": dx} if need_dx else {}), **grads, **(state if training else {})}


def torch_steps(network, params, loss, batches):
    """Train the module of a network in place, and return the loss of each step."""
    torch = require("torch")
    module, names = module_of(network, params)
    learning = {names[name]: each for name, each in module.named_parameters() if each.requires_grad}

    def step(x, y):
        module.zero_grad(set_to_none=False)
        logits = module(given(network, torch.from_numpy(x)), logits=True)
        terms = _torch_losses(loss, logits, torch.from_numpy(y))
        terms.sum().backward()
        return float(terms.detach().sum()), {name: each.grad.numpy() for name, each in learning.items()}

    return _train(step, params, batches)


def _torch_losses(loss, logits, targets):
    if not isinstance(loss, BoundLosses):
        return sample_losses(loss.loss, logits, targets, loss.head)
    found = 0
    for part, own in zip(loss.parts, logits, strict=True):
        own_targets = targets[:, part.start : part.stop].reshape(-1, *part.target_shape)
        own_targets = own_targets.long() if part.labels else own_targets
        found = found + part.weight * sample_losses(part.bound.loss, own, own_targets, part.bound.head)
    return found


def numpy_steps(network, params, loss, batches):
    """Train a network in NumPy mode in place, and return the loss of each step."""
    ctx, dtype = Context(), next(iter(params.values())).dtype
    grads = network.layout.gradient_views(np.empty(network.layout.trainable_size, dtype))
    state = {spec.name: np.zeros(spec.shape) for spec in network.state}

    def step(x, y):
        ctx.begin(training=True, random_key=(1,), new_state=state)
        logits, backward = network.forward(params, x, ctx)
        total, _, loss_backward = loss(logits, y, None, ctx)
        backward(loss_backward(), grads, need_dx=False)
        for name, value in state.items():
            params[name][...] = value
        return float(np.ravel(total)[0]), grads

    return _train(step, params, batches)


def _train(step, params, batches):
    """Take steps of gradient descent with momentum."""
    losses, velocities = [], {}
    for x, y in batches:
        loss, grads = step(x, y)
        losses.append(loss / len(x))
        for name, gradient in grads.items():
            velocities[name] = MOMENTUM * velocities.get(name, 0) + gradient / len(x)
            params[name] -= RATE * velocities[name]
    return losses
