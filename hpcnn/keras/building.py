"""Build models before their first batch, from which they would otherwise create their weights."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any


def is_complete(model: Any) -> bool:
    """Return whether a model and all its layers are built."""
    return all(layer.built for layer in model._flatten_layers())


def build_for(model: Any, data: Any) -> None:
    """Build a model for the batches of a TensorFlow iterator, without taking one.

    A model that needs numbers for that, or batches whose structure only its own training step knows, stays unbuilt.
    """
    import keras

    spec = getattr(data, "element_spec", None)
    if spec is None:
        return
    # What a user's model raises here, or Keras warns of, the first step raises again if it matters.
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = keras.utils.unpack_x_y_sample_weight(keras.tree.map_structure(_as_symbol, spec))[0]
        model(inputs, **({"training": True} if model._call_has_training_arg else {}))


def _as_symbol(spec: Any) -> Any:
    import keras

    return None if spec is None else keras.KerasTensor(tuple(spec.shape), spec.dtype.name)
