"""Compatibility with scripts that expect the Keras of Horovod's time."""

from __future__ import annotations

from functools import cache
from typing import Any


class CallableList(list[Any]):
    """A list that returns itself when called: `optimizer.variables` was a method before Keras 3."""

    def __call__(self) -> CallableList:
        """Return the list."""
        return self


@cache
def make_variables_callable() -> None:
    """Make ``optimizer.variables()`` work like ``optimizer.variables``, for any Keras optimizer."""
    import keras

    for kind in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer):
        kind.variables = _called_or_not(kind.variables.fget)


def _called_or_not(get: Any) -> property:
    return property(lambda optimizer: CallableList(get(optimizer)))
