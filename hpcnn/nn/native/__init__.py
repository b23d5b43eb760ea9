"""Passes of layers by the compiled core: each sum has one order, so the bits depend on the job alone."""

from hpcnn.nn.native.arithmetic import NATIVE, NativeArithmetic
from hpcnn.nn.native.base import ShardRows

__all__ = ["NATIVE", "NativeArithmetic", "ShardRows"]
