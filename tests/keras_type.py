"""The type that Keras has by default, in tests that compare with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def keras_type(keras: Any, dtype: str) -> Iterator[None]:
    """Let layers and learning rates of Keras have `dtype` within the block, whatever a test before it left behind."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)  # that of layers, which does not follow once one has been made
    try:
        yield
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
