"""hpcnn's own layers as functions of PyTorch's tensors, family by family."""

from hpcnn.backends.torch.layers.conversion import to_torch
from hpcnn.backends.torch.layers.making import activation

__all__ = ["activation", "to_torch"]
