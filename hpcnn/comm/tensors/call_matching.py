"""Collective calls of users' programs, which must be the same on all ranks, and the layout of their arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.errors import CommunicatorError
from hpcnn.system.memory import ALIGNMENT

ArraySpec = tuple[tuple[int, ...], np.dtype[np.generic]]
"""Shape and type of an array."""
_DIGEST_BYTES = 7
"""So that the sum over all ranks also fits 64 bits."""


class ReduceOp(Enum):
    """The operation of a reduction."""

    AVERAGE = "Average"
    SUM = "Sum"
    MIN = "Min"
    MAX = "Max"
    PRODUCT = "Product"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Call:
    """One collective call, which must be the same on all ranks.

    >>> str(Call("allreduce", (((3, 4), np.dtype(np.float32)),), (ReduceOp.SUM,)))
    'allreduce(Sum) of float32 (3, 4)'
    """

    kind: str
    specs: tuple[ArraySpec, ...] = ()
    detail: tuple[object, ...] = ()

    @cached_property
    def digest(self) -> int:
        """A hash of the call, the same in each process."""
        return int.from_bytes(hashlib.blake2b(repr(self).encode(), digest_size=_DIGEST_BYTES).digest())

    def __str__(self) -> str:
        detail = f"({', '.join(map(str, self.detail))})" if self.detail else ""
        arrays = ", ".join(f"{dtype} {shape}" for shape, dtype in self.specs[:3])
        more = f" and {len(self.specs) - 3} more" if len(self.specs) > 3 else ""
        return f"{self.kind}{detail}" + (f" of {arrays}{more}" if arrays else "")


@lru_cache(maxsize=1024)
def call_of(kind: str, specs: tuple[ArraySpec, ...], *detail: object) -> Call:
    """Return a call, cached: steps repeat, and a digest takes longer than a look-up."""
    return Call(kind, specs, detail)


def specs_of(arrays: Sequence[Array]) -> tuple[ArraySpec, ...]:
    """Return shape and type of each array."""
    return tuple((array.shape, array.dtype) for array in arrays)


@dataclass(frozen=True)
class Fusion:
    """The layout of the arrays of one type in one message, each at a multiple of 64 bytes."""

    dtype: np.dtype[np.generic]
    places: tuple[tuple[int, slice], ...]
    """The number of each array, and its entries."""
    length: int


@lru_cache(maxsize=256)
def fuse(specs: tuple[ArraySpec, ...]) -> tuple[Fusion, ...]:
    """Return the layout of arrays in one message per type.

    >>> [fusion] = fuse((((3,), np.dtype(np.float64)), ((2, 2), np.dtype(np.float64))))
    >>> fusion.places, fusion.length
    (((0, slice(0, 3, None)), (1, slice(8, 12, None))), 12)
    """
    numbers: dict[np.dtype[np.generic], list[int]] = {}
    for number, (_, dtype) in enumerate(specs):
        numbers.setdefault(dtype, []).append(number)
    return tuple(_fuse_one(dtype, [(number, specs[number][0]) for number in own]) for dtype, own in numbers.items())


def _fuse_one(dtype: np.dtype[np.generic], shapes: Sequence[tuple[int, tuple[int, ...]]]) -> Fusion:
    line = max(1, ALIGNMENT // dtype.itemsize)
    places: list[tuple[int, slice]] = []
    end = 0
    for number, shape in shapes:
        start = -(-end // line) * line
        end = start + int(np.prod(shape, dtype=np.int64))
        places.append((number, slice(start, end)))
    return Fusion(dtype, tuple(places), end)


def rounded_up(length: int) -> int:
    """Return `length`, rounded up by less than a sixteenth: few buffers then serve arrays of any length.

    >>> [rounded_up(length) for length in (1, 31, 33, 1000, 1025)]
    [1, 31, 34, 1024, 1088]
    """
    step = 1 << max(0, length.bit_length() - 5)
    return -(-length // step) * step


def check_reducible(op: ReduceOp, specs: Sequence[ArraySpec]) -> None:
    """Check that this operation is defined for the arrays.

    Raises:
        CommunicatorError: they are not numbers, or Booleans are to be added.
    """
    for shape, dtype in specs:
        if dtype.kind in "OSUMm":
            raise CommunicatorError(f"{op.value} needs numbers, and the array of shape {shape} is of type {dtype}")
        if dtype.kind == "b" and op not in (ReduceOp.MIN, ReduceOp.MAX):
            raise CommunicatorError(
                f"{op.value} of Booleans (shape {shape}) is not defined. Use Min (are all true?) or Max "
                "(is any true?), or cast them to a number type."
            )
