"""hpcnn's own layers as layers of Keras, family by family."""

from hpcnn.backends.keras.layers.conversion import to_keras
from hpcnn.backends.keras.layers.making import activation

__all__ = ["activation", "to_keras"]
