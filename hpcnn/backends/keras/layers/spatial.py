"""Layers that Keras has once for each number of spatial axes: which one, the inputs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpcnn.backends.keras.layers.making import Make


class ByInputs:
    """Stands for a layer of Keras until its inputs are known."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self.weights: Sequence[Any] = ()

    def __call__(self, tensor: Any) -> Any:
        """Make the layer for `tensor`, and return its output."""
        made = self._make(tensor)
        self.weights = made.weights
        return made(tensor)


def for_axes(name: str, *fields: str) -> Make:
    """Return what makes the Keras layer `name` with 1D, 2D or 3D behind it, which takes the values of `fields`."""

    def make(layer: Any, dtype: str) -> Any:
        import keras

        def made(tensor: Any) -> Any:
            kind = getattr(keras.layers, f"{name}{len(tensor.shape) - 2}D")
            return kind(**{field: getattr(layer, field) for field in fields}, dtype=dtype)

        return ByInputs(made)

    return make
