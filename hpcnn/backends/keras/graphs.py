"""Functions of tensors as TensorFlow's graphs, called with as little Python as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpcnn.backends.keras.runtime import ALONE


def trace(function: Callable[..., Any], signature: Sequence[Any]) -> Callable[..., Any]:
    """Return the function as a graph, traced once.

    It takes tensors that fit the `TensorSpec`s of `signature`, in order. They are not checked again: binding them to
    arguments takes as long as the graph of a small network.
    """
    import tensorflow as tf

    with ALONE:
        concrete = tf.function(function, input_signature=signature, autograph=False).get_concrete_function()
    inner = getattr(concrete, "_inference_function", None)
    call = getattr(inner, "call_preflattened", None)
    if call is None or concrete.captured_inputs:  # no public interface: other versions may not have it
        checked: Callable[..., Any] = concrete
        return checked
    return lambda *tensors: call(tensors)
