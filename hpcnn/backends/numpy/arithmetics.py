"""The arithmetics by name. The compiled core is loaded where it is asked for, and only there."""

from __future__ import annotations

from hpcnn.nn.arithmetic import Arithmetic
from hpcnn.nn.plain import NUMPY


def eager(name: str) -> Arithmetic:
    """Return the arithmetic ``native`` or ``numpy``, for passes that are one shard."""
    if name == "numpy":
        return NUMPY
    from hpcnn.nn.native import NATIVE

    return NATIVE


def shard_arithmetic(key: tuple[int, ...]) -> Arithmetic:
    """Return the arithmetic of the core for a shard whose random draws `key` decides: ends with step and shard."""
    import numpy as np

    from hpcnn.nn.native import NativeArithmetic

    step, shard = key[-2], key[-1]
    place = np.array([shard << 16 & 0xFFFFFFFF, step & 0xFFFFFFFF], np.uint32)
    return NativeArithmetic(seed=key[0], place=place)


def use_core_threads(threads: int) -> None:
    """Let the core compute on that number of threads."""
    from hpcnn.kernels import core

    core.use_threads(threads)
