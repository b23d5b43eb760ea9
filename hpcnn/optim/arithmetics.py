"""The arithmetics by name. The compiled core is loaded where it is asked for, and only there."""

from __future__ import annotations

from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.numpy_arithmetic import NUMPY


def arithmetic(name: str) -> Arithmetic:
    """Return the arithmetic ``native`` or ``numpy``."""
    if name == "numpy":
        return NUMPY
    from hpcnn.optim.native_arithmetic import NATIVE

    return NATIVE
