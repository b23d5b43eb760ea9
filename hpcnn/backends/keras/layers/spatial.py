"""Layers that Keras has once for each number of spatial axes: which one, the inputs say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpcnn.backends.keras.layers.making import Make


class Operation:
    """What Keras computes without a layer of its own, or by one that is made once its inputs are known."""

    def __init__(self, compute: Callable[[Any], Any], layer: Any = None) -> None:
        """`layer` is the one among `compute` that has the parameters, if any does."""
        self._compute, self._layer = compute, layer

    @property
    def weights(self) -> Sequence[Any]:
        """The variables of Keras's layer."""
        weights: Sequence[Any] = () if self._layer is None else self._layer.weights
        return weights

    def __call__(self, tensor: Any) -> Any:
        """Return the output for `tensor`."""
        return self._compute(tensor)


def for_axes(name: str, *fields: str) -> Make:
    """Return what makes the Keras layer `name` with 1D, 2D or 3D behind it, which takes the values of `fields`."""

    def make(layer: Any, dtype: str) -> Any:
        import keras

        def compute(tensor: Any) -> Any:
            kind = getattr(keras.layers, f"{name}{len(tensor.shape) - 2}D")
            return kind(**{field: getattr(layer, field) for field in fields}, dtype=dtype)(tensor)

        return Operation(compute)

    return make
