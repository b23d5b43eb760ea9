"""Random numbers as pure functions of (seed, stream, row, column), with the same bits on any processor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.rows import Array, Buffer
from hpcnn.data.sampler import Indices

GAMMA = 0x9E3779B97F4A7C15
MASK = 2**64 - 1
_LOGARITHM = [2 / (2 * k + 1) for k in range(12)]
_SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(12)]
_LOG_2 = 0.6931471805599453


class CounterHash:
    """64 random bits for each (row, column), a pure function of these, the seed, the stream and the place in it.

    The generator is splitmix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators"),
    entered at the counter ``row * width + column``.
    """

    def __init__(self, seed: int, stream: int, width: int, *place: int) -> None:
        key = np.random.SeedSequence([seed, stream, *place]).generate_state(1, np.uint64)
        self._columns = np.arange(1, width + 1, dtype=np.uint64) * np.uint64(GAMMA) + key
        self._row_step = np.uint64(GAMMA * width & MASK)
        self._starts = Buffer((1,), np.uint64)
        self._bits, self._shifted = Buffer((width,), np.uint64), Buffer((width,), np.uint64)

    def bits(self, rows: Indices) -> NDArray[np.uint64]:
        """Return the bits of `rows`, shape (k,), as scratch of shape (k, width)."""
        starts = self._starts.rows(len(rows))
        np.copyto(starts[:, 0], rows, casting="unsafe")
        np.multiply(starts, self._row_step, out=starts)
        z, shifted = self._bits.rows(len(rows)), self._shifted.rows(len(rows))
        # Two copies and a sum: a broadcast sum goes through hidden arrays, and is slower.
        np.copyto(z, starts)
        np.copyto(shifted, self._columns)
        np.add(z, shifted, out=z)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            np.right_shift(z, np.uint64(shift), out=shifted)
            np.bitwise_xor(z, shifted, out=z)
            np.multiply(z, np.uint64(factor), out=z)
        np.right_shift(z, np.uint64(31), out=shifted)
        return np.bitwise_xor(z, shifted, out=z)

    def uniform(self, rows: Indices, out: Array) -> Array:
        """Fill `out`, float64 (k, width), with numbers from [0, 1) of 53 random bits each."""
        bits = self.bits(rows)
        np.right_shift(bits, np.uint64(11), out=bits)
        np.copyto(out, bits, casting="unsafe")
        return np.multiply(out, 2.0**-53, out=out)


class NormalHash:
    """Standard normal numbers by Box and Muller (1958), two hashes each, with the same bits on any processor.

    NumPy's logarithm and cosine are other functions on other processors: here they are polynomials.
    """

    def __init__(self, seed: int, radius: int, angle: int, width: int) -> None:
        self._radius, self._angle = CounterHash(seed, radius, width), CounterHash(seed, angle, width)
        self._work = [Buffer((width,), np.float64) for _ in range(3)]
        self._exponents = Buffer((width,), np.int32)

    def normal(self, rows: Indices, out: Array) -> Array:
        """Fill `out`, float64 (k, width)."""
        angle, square, power = (buffer.rows(len(rows)) for buffer in self._work)
        exponents = self._exponents.rows(len(rows))
        self._radius.uniform(rows, out)
        np.subtract(1.0, out, out=out)  # (0, 1]: the logarithm is finite
        # log(m 2^e) = e log(2) + 2 (s + s^3 / 3 + s^5 / 5 ...), s = (m - r) / (m + r), plus log(r), with r = sqrt(1/2)
        np.frexp(out, out, exponents)
        np.subtract(out, math.sqrt(0.5), out=power)
        np.add(out, math.sqrt(0.5), out=out)
        np.divide(power, out, out=power)
        np.multiply(power, power, out=square)
        _polynomial(_LOGARITHM, square, out)
        np.multiply(out, power, out=out)
        np.copyto(power, exponents)
        np.subtract(power, 0.5, out=power)
        np.multiply(power, _LOG_2, out=power)
        np.add(out, power, out=out)
        np.minimum(out, 0.0, out=out)
        np.multiply(out, -2.0, out=out)
        np.sqrt(out, out=out)
        cosines(self._angle.uniform(rows, angle), square, power)
        return np.multiply(out, power, out=out)


def cosines(turns: Array, square: Array, out: Array) -> Array:
    """Write cos(2 pi turns) to `out`, float64, for turns in [0, 1], with an error below 1e-15.

    `turns` and `square`, of the same shape, are overwritten. Only sums and products: the bits are those of any
    processor.

    >>> turns = np.array([0.0, 0.25, 0.5, 1.0])
    >>> cosines(turns, np.empty(4), np.empty(4)).round(15).tolist()
    [1.0, 0.0, -1.0, 1.0]
    """
    # cos(2 pi v) = sin(2 pi w), w = |v - 1/2| - 1/4, of which |w| <= 1/4
    np.subtract(turns, 0.5, out=turns)
    np.abs(turns, out=turns)
    np.subtract(turns, 0.25, out=turns)
    np.multiply(turns, 2 * math.pi, out=turns)
    np.multiply(turns, turns, out=square)
    _polynomial(_SINE, square, out)
    return np.multiply(out, turns, out=out)


def _polynomial(coefficients: list[float], x: Array, out: Array) -> None:
    """Write the polynomial with these coefficients, lowest power first, at `x` to `out`."""
    out.fill(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        np.multiply(out, x, out=out)
        np.add(out, coefficient, out=out)
