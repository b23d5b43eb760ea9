"""Layers of several inputs: what is made takes a list of tensors."""

from __future__ import annotations

from collections.abc import Mapping

from hpcnn.backends.keras.layers.making import Make, plain
from hpcnn.nn.layer import Layer
from hpcnn.nn.layers import Add, Average, Concatenate, Maximum, Multiply

LAYERS: Mapping[type[Layer], Make] = {
    Add: plain("Add"),
    Average: plain("Average"),
    Maximum: plain("Maximum"),
    Multiply: plain("Multiply"),
    Concatenate: plain("Concatenate", "axis"),
}
