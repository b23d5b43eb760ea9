"""What `hpcnn keras-check` says of Keras and TensorFlow, held against those that are installed."""

from __future__ import annotations

import importlib
import inspect

import keras
import pytest

from hpcnn.keras.check import tables

IN_ANOTHER_FORM = {"keras.optimizers.legacy"}
"""What is there by name, and refuses to be used."""


def there_is(name: str) -> bool:
    """Return whether a name can be had, by imports and attributes."""
    first, *rest = name.split(".")
    found, path = importlib.import_module(first), first
    for part in rest:
        path = f"{path}.{part}"
        if not hasattr(found, part):
            try:
                importlib.import_module(path)
            except ImportError:
                return False
        found = getattr(found, part, None)
    return found is not None


def both(name: str) -> set[str]:
    return {name, f"tensorflow.{name}"} if name.startswith("keras.") else {name}


def check_names_that_moved() -> None:
    for old, new in tables.RENAMED.items():
        assert there_is(new), new
        for name in both(old) if old not in IN_ANOTHER_FORM else ():
            assert not there_is(name), name
    with pytest.raises(ImportError):
        keras.optimizers.legacy.SGD()


def check_names_that_only_tensorflow_has() -> None:
    examples = {"keras.backend.": "keras.backend.get_value", "keras.preprocessing.image.random_": None}
    for beginning in tables.ONLY_IN_TENSORFLOW:
        name = examples.get(beginning, beginning)
        if name is not None:
            assert not there_is(name), name
            assert there_is(f"tensorflow.{name}"), name
    assert all(there_is(f"keras.backend.{name}") for name in tables.STILL_IN_BACKEND)


def check_names_that_are_gone() -> None:
    for name in {*tables.GONE, *tables.SESSION, *tables.CONFIGURATION}:
        if ".compat." not in name:
            assert not there_is(name), name


def check_methods() -> None:
    for old, new in tables.METHODS.items():
        assert not hasattr(keras.Model, old)
        assert hasattr(keras.Model, new)
    for method, keywords in tables.METHOD_KEYWORDS.items():
        for owner in (keras.Model, keras.optimizers.Optimizer):
            known = inspect.signature(getattr(owner, method, lambda: None)).parameters
            assert not set(keywords) & set(known), (owner, method)
            assert not known or all(new in known for new in keywords.values() if new), (owner, method)


def check_arguments() -> None:
    for name, keywords in tables.NAME_KEYWORDS.items():
        for old, new in keywords.items():
            kind, given = {
                "keras.optimizers.": (keras.optimizers.SGD, ()),
                "keras.callbacks.ModelCheckpoint": (keras.callbacks.ModelCheckpoint, ("x.keras",)),
                "keras.layers.LSTM": (keras.layers.LSTM, (1,)),
            }.get(name) or (getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]), ())
            if old == "decay":
                with pytest.warns(UserWarning, match="will be ignored"):
                    kind(*given, decay=0.1)
            else:
                with pytest.raises((TypeError, ValueError)):
                    kind(*given, **{old: 0.1})
            if new is not None:
                kind(*given, **{new: 0.1})
