"""Recurrent layers, and layers that go through sequences with another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place, activation
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import GRU, LSTM, SimpleRNN

Weights = tuple[Any, Any, Any]
"""Kernel, recurrent kernel, and bias, or None."""
Run = Callable[[Any, Weights], Any]
"""``(x, weights) -> outputs`` (n, steps, units) of all steps, the first of x first."""
Step = Callable[[Any, Any, Weights, Any], tuple[Any, ...]]
"""``(what the inputs give, state, weights, second bias) -> state``; the first of the state is the output."""


def _recurrent(place: Place) -> Call:
    steps = run(place)
    return lambda p, x, training: steps(p, x) if place.layer.return_sequences else steps(p, x)[:, -1]


def run(place: Place) -> Callable[[Mapping[str, Any], Any], Any]:
    """Return ``(parameters, x) -> outputs`` of all steps, in the order in which they are computed."""
    kernel, recurrent, bias = (place.name(name) for name in ("kernel", "recurrent_kernel", "bias"))
    of_torch = _of_torch(place.layer) or _step_by_step(place.layer)

    def steps(p: Mapping[str, Any], x: Any) -> Any:
        x = x.flip(1) if place.layer.go_backwards else x
        return of_torch(x, (p[kernel], p[recurrent], p.get(bias)))

    return steps


def _of_torch(layer: Any) -> Run | None:
    """Return PyTorch's own loop over the steps, where it has that cell."""
    import torch

    order: tuple[int, ...]
    kind, activations = layer.cell.kind, (layer.cell.activation, layer.cell.recurrent_activation)
    if kind == "simple_rnn" and activations[0] in ("tanh", "relu"):
        go, order = getattr(torch, f"rnn_{activations[0]}"), (0,)
    elif kind == "lstm" and activations == ("tanh", "sigmoid"):
        go, order = torch.lstm, (0, 1, 2, 3)
    elif kind == "gru_after" and activations == ("tanh", "sigmoid"):
        go, order = torch.gru, (1, 0, 2)  # PyTorch has the reset gate first
    else:
        return None

    def loop(x: Any, weights: Weights) -> Any:
        biases: tuple[Any, ...] = ()
        if weights[2] is not None:
            biases = tuple(weights[2]) if weights[2].ndim == 2 else (weights[2], torch.zeros_like(weights[2]))
        given = [_reordered(each, order).t() for each in weights[:2]] + [_reordered(each, order) for each in biases]
        zeros = x.new_zeros(1, x.shape[0], layer.units)
        state = (zeros, zeros) if kind == "lstm" else zeros
        return go(x, state, given, bool(biases), 1, 0.0, torch.is_grad_enabled(), False, True)[0]

    return loop


def _reordered(weights: Any, order: tuple[int, ...]) -> Any:
    """Return weights with the gates, along the last axis, in another order."""
    import torch

    if order == tuple(range(len(order))):
        return weights
    gates = weights.chunk(len(order), -1)
    return torch.cat([gates[gate] for gate in order], -1)


def _step_by_step(layer: Any) -> Run:
    import torch

    step = _STEPS[layer.cell.kind](layer)

    def loop(x: Any, weights: Weights) -> Any:
        kernel, _, bias = weights
        first, second = bias if bias is not None and bias.ndim == 2 else (bias, None)
        given = x @ kernel if first is None else x @ kernel + first
        state: tuple[Any, ...] = (x.new_zeros(x.shape[0], layer.units),) * 2
        outputs = []
        for number in range(x.shape[1]):
            state = step(given[:, number], state, weights, second)
            outputs.append(state[0])
        return torch.stack(outputs, 1)

    return loop


def _functions(layer: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the activation of the outputs and that of the gates."""
    names = layer.cell.activation, layer.cell.recurrent_activation
    act, gate = (activation(name) or (lambda z: z) for name in names)
    return act, gate


def _simple_rnn(layer: Any) -> Step:
    act, _ = _functions(layer)
    return lambda given, state, weights, _: (act(given + state[0] @ weights[1]),)


def _lstm(layer: Any) -> Step:
    act, gate = _functions(layer)

    def step(given: Any, state: Any, weights: Weights, second: Any) -> tuple[Any, ...]:
        h, c = state
        i, f, g, o = (given + h @ weights[1]).chunk(4, -1)
        c = gate(f) * c + gate(i) * act(g)
        return gate(o) * act(c), c

    return step


def _gru_after(layer: Any) -> Step:
    act, gate = _functions(layer)

    def step(given: Any, state: Any, weights: Weights, second: Any) -> tuple[Any, ...]:
        h = state[0]
        inner = h @ weights[1] if second is None else h @ weights[1] + second
        (z, r, new), (inner_z, inner_r, inner_new) = given.chunk(3, -1), inner.chunk(3, -1)
        z, new = gate(z + inner_z), act(new + gate(r + inner_r) * inner_new)
        return (new + z * (h - new),)

    return step


def _gru_before(layer: Any) -> Step:
    act, gate = _functions(layer)

    def step(given: Any, state: Any, weights: Weights, second: Any) -> tuple[Any, ...]:
        h, both = state[0], 2 * layer.units
        z, r = gate(given[:, :both] + h @ weights[1][:, :both]).chunk(2, -1)
        new = act(given[:, both:] + (r * h) @ weights[1][:, both:])
        return (new + z * (h - new),)

    return step


_STEPS: Mapping[str, Callable[[Any], Step]] = {
    "simple_rnn": _simple_rnn,
    "lstm": _lstm,
    "gru_after": _gru_after,
    "gru_before": _gru_before,
}
LAYERS: Mapping[type[Layer], Make] = dict.fromkeys((SimpleRNN, LSTM, GRU), _recurrent)
