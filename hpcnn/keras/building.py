"""Models that make their weights when they first see a batch, built before they see it."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any


def is_complete(model: Any) -> bool:
    """Return whether a model and all its layers have their weights."""
    return all(layer.built for layer in model._flatten_layers())


def build_for(model: Any, data: Any) -> None:
    """Let a model make its weights for the batches of an iterator of TensorFlow, of which none is taken.

    A model that needs numbers for it, or batches of a form that only its own training step knows, stays as it is.
    """
    import keras

    spec = getattr(data, "element_spec", None)
    if spec is None:
        return
    # Whatever a model of a user's own may raise here, or Keras warn of, the first step does again where it matters.
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = keras.utils.unpack_x_y_sample_weight(keras.tree.map_structure(_as_symbol, spec))[0]
        model(inputs, **({"training": True} if model._call_has_training_arg else {}))


def _as_symbol(spec: Any) -> Any:
    import keras

    return None if spec is None else keras.KerasTensor(tuple(spec.shape), spec.dtype.name)
