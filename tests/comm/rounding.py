"""Rounding to two bytes as its definition says, number by number from a table: what the fast one is checked against."""

from __future__ import annotations

from functools import cache

import numpy as np

from hpcnn.comm.protocol import Array

PATTERNS = {"bf16": 0x7F80, "fp16": 0x7C00}
"""How many numbers there are that are finite and not negative: their bits, read as an integer, count them in order."""


def bits_to_number(kind: str, bits: Array) -> Array:
    """Return what 16 bits mean, as float64."""
    exponent_bits, fraction_bits = (8, 7) if kind == "bf16" else (5, 10)
    bits = bits.astype(np.int64)
    fraction, rest = bits & ((1 << fraction_bits) - 1), bits >> fraction_bits
    exponent = rest & ((1 << exponent_bits) - 1)
    bias = (1 << (exponent_bits - 1)) - 1
    normal = exponent > 0
    size = np.ldexp(fraction + (normal << fraction_bits), np.maximum(exponent, 1) - bias - fraction_bits)
    last = exponent == (1 << exponent_bits) - 1
    size = np.where(last, np.where(fraction, np.nan, np.inf), size)
    return np.where(rest >> exponent_bits, -size, size)


@cache
def numbers(kind: str) -> Array:
    """Return all numbers that are finite and not negative, ascending, as float64."""
    return bits_to_number(kind, np.arange(PATTERNS[kind]))


@cache
def middles(kind: str) -> Array:
    """Return the middle between each number and the next; after the largest comes what would be if there were more."""
    values = numbers(kind)
    return (values + np.append(values[1:], 2 * values[-1] - values[-2])) / 2


@np.errstate(all="ignore")  # NaN that signals, and what overflows
def nearest(kind: str, values: Array) -> Array:
    """Return the nearest numbers, of two that are as near the one of even bits, in the type of `values`."""
    if kind == "bf16":
        values = values.astype(np.float32).astype(values.dtype)
    size = np.abs(values).astype(np.float64)
    place = np.searchsorted(middles(kind), size)  # middles that are smaller
    tie = middles(kind)[np.minimum(place, PATTERNS[kind] - 1)] == size
    place += tie & (place % 2 == 1)
    rounded = np.append(numbers(kind), np.inf)[np.minimum(place, PATTERNS[kind])]
    return np.where(np.isnan(values), np.nan, np.copysign(rounded, values)).astype(values.dtype)
