"""Layers of several inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from hpcnn.backends.torch.layers.making import Call, Make, Place, stateless
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Add, Average, Concatenate, Maximum, Multiply


def _folded(combine: Callable[[Any, Any], Any]) -> Make:
    """Return what makes a layer that combines two inputs, then the result with the next."""
    return lambda place: stateless(lambda inputs: reduce(combine, inputs))


def _average(place: Place) -> Call:
    return stateless(lambda inputs: reduce(lambda a, b: a + b, inputs) * (1 / len(inputs)))


def _larger(a: Any, b: Any) -> Any:
    """Return the maximum; the first of equals gets the whole gradient, and not half of it as torch.maximum has it."""
    import torch

    return torch.where((b > a) | b.isnan(), b, a)


def _concatenate(place: Place) -> Call:
    import torch

    axis = place.layer.axis
    return stateless(lambda inputs: torch.cat(list(inputs), axis))


LAYERS: Mapping[type[Layer], Make] = {
    Add: _folded(lambda a, b: a + b),
    Average: _average,
    Maximum: _folded(_larger),
    Multiply: _folded(lambda a, b: a * b),
    Concatenate: _concatenate,
}
