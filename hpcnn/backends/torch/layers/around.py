"""Layers around another: both ways through a sequence, and the same at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpcnn.backends.torch.layers import recurrent
from hpcnn.backends.torch.layers.making import Call, Place
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Bidirectional, TimeDistributed

Wrap = Callable[[Place, Callable[[Place], Call]], Call]
"""``(place, make) -> call``, given what makes the inner layer."""


def _bidirectional(place: Place, make: Callable[[Place], Call]) -> Call:
    import torch

    layer = place.layer
    forth, back = (recurrent.run(place.inner(way, place.input_shape)) for way in layer.ways)

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        first, second = forth(p, x), back(p, x)
        if layer.inner.return_sequences:
            second = second.flip(1)  # to the places of the steps
        else:
            first, second = first[:, -1], second[:, -1]
        match layer.merge_mode:
            case "concat":
                return torch.cat([first, second], -1)
            case "mul":
                return first * second
            case "sum":
                return first + second
            case _:
                return (first + second) * 0.5

    return call


def _time_distributed(place: Place, make: Callable[[Place], Call]) -> Call:
    inner = make(place.inner(place.layer.inner, place.input_shape[1:]))

    def call(p: Mapping[str, Any], x: Any, training: bool) -> Any:
        return inner(p, x.flatten(0, 1), training).unflatten(0, x.shape[:2])

    return call


WRAPPERS: Mapping[type[Layer], Wrap] = {Bidirectional: _bidirectional, TimeDistributed: _time_distributed}
