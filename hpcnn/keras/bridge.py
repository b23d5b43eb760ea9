"""What Keras 3 gives otherwise than scripts for Horovod expect it: bridged where the script can't tell."""

from __future__ import annotations

from functools import cache
from typing import Any


class CallableList(list[Any]):
    """A list that gives itself when it is called: `optimizer.variables` was a method before Keras 3."""

    def __call__(self) -> CallableList:
        """Return the list."""
        return self


@cache
def let_variables_be_called() -> None:
    """Let scripts write ``optimizer.variables()`` as well as ``optimizer.variables``, for any optimizer of Keras."""
    import keras

    for kind in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer):
        kind.variables = _called_or_not(kind.variables.fget)


def _called_or_not(get: Any) -> property:
    return property(lambda optimizer: CallableList(get(optimizer)))
