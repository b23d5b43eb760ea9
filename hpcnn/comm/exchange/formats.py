"""Numbers in two bytes: what a compressed gradient looks like on the wire."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.protocol import Array
from hpcnn.system.memory import aligned_empty

WIRE_BYTES = 2
"""Of a number on the wire."""


class Format(Protocol):
    """Turns up to `BLOCK` numbers at a time into two bytes each, and back. Allocates nothing."""

    def empty(self, size: int) -> Array:
        """Return room for `size` encoded numbers."""
        ...

    def encode(self, values: Array, wire: Array) -> None:
        """Write the nearest numbers of this format into `wire`; of two that are as near, the even one.

        What is too large becomes infinite, and NumPy may warn of it; NaN stays NaN.
        """
        ...

    def decode(self, wire: Array, out: Array) -> None:
        """Write what `wire` stands for into `out`, exactly."""
        ...


class Float16:
    """IEEE 754 binary16: 11 significant bits, up to 65504, in steps of 6e-8 near zero.

    >>> format, values = Float16(), np.array([1 / 3, 65519, 65520], np.float32)
    >>> wire = format.empty(3)
    >>> with np.errstate(over="ignore"):
    ...     format.encode(values, wire)
    >>> wire
    array([3.333e-01, 6.550e+04,       inf], dtype=float16)
    """

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        """Prepare for numbers of type `dtype`."""

    def empty(self, size: int) -> Array:
        """Return room for `size` encoded numbers."""
        return aligned_empty(size, np.float16)

    def encode(self, values: Array, wire: Array) -> None:
        """Write the nearest numbers of this format into `wire`."""
        np.copyto(wire, values, casting="same_kind")

    def decode(self, wire: Array, out: Array) -> None:
        """Write what `wire` stands for into `out`."""
        np.copyto(out, wire)


class Bfloat16:
    """The upper half of a float32: 8 significant bits, with its range. float64 is rounded to float32 first.

    >>> format, out = Bfloat16(), np.empty(2, np.float32)
    >>> wire = format.empty(2)
    >>> format.encode(np.array([1 / 3, 1e9], np.float32), wire)
    >>> format.decode(wire, out)
    >>> out
    array([3.3398438e-01, 9.9824435e+08], dtype=float32)
    """

    def __init__(self, dtype: DTypeLike = np.float32) -> None:
        """Prepare for numbers of type `dtype`."""
        self._bits = aligned_empty(BLOCK, np.uint32)
        self._single = None if np.dtype(dtype) == np.float32 else aligned_empty(BLOCK, np.float32)

    def empty(self, size: int) -> Array:
        """Return room for `size` encoded numbers."""
        return aligned_empty(size, np.uint16)

    def encode(self, values: Array, wire: Array) -> None:
        """Write the nearest numbers of this format into `wire`."""
        single = values
        if self._single is not None:
            single = self._single[: values.size]
            np.copyto(single, values, casting="same_kind")
        given, bits = single.view(np.uint32), self._bits[: values.size]
        # To the lower half add just under a half of its range, and one more if the upper half is odd: what carries
        # over into the upper half is the rounding.
        np.right_shift(given, 16, out=bits)
        np.bitwise_and(bits, 1, out=bits)
        np.add(bits, 0x7FFF, out=bits)
        np.add(bits, given, out=bits)
        np.right_shift(bits, 16, out=wire, casting="unsafe")
        if not math.isfinite(np.dot(single, single)):  # the bits of NaN may have become those of infinity or zero
            wire[np.isnan(single)] = 0x7FC0

    def decode(self, wire: Array, out: Array) -> None:
        """Write what `wire` stands for into `out`."""
        bits = self._bits[: wire.size] if self._single is not None else out.view(np.uint32)
        np.copyto(bits, wire)
        np.left_shift(bits, 16, out=bits)
        if self._single is not None:
            np.copyto(out, bits.view(np.float32))


FORMATS: dict[str, type[Float16] | type[Bfloat16]] = {"bf16": Bfloat16, "fp16": Float16}
