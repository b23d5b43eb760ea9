"""Passes of layers in NumPy. Its BLAS library multiplies, so the bits depend on that and on the processor."""

from hpcnn.nn.plain.arithmetic import NUMPY, NumpyArithmetic

__all__ = ["NUMPY", "NumpyArithmetic"]
