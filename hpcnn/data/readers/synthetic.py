"""Synthetic data: each value is a hash of (seed, row, column), so that a table of any size needs no memory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, Buffer, ComputedRows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.job import data as schema

GAMMA = 0x9E3779B97F4A7C15
MASK = 2**64 - 1
INPUTS, NOISE, LABELS, RADIUS, ANGLE, CENTRE_RADIUS, CENTRE_ANGLE = range(7)
"""Independent random streams, one for each use."""
_LOG_TERMS, _SINE_TERMS = 12, 12
_LOG_2 = 0.6931471805599453
DISTANCE = 2.0
"""Mean distance of the centres of two clusters: two standard deviations if `noise` is 1."""


class CounterHash:
    """64 random bits for each (row, column), a pure function of these, the seed and the stream.

    The generator is splitmix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators"),
    entered at the counter ``row * width + column``.
    """

    def __init__(self, seed: int, stream: int, width: int) -> None:
        key = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
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
        _polynomial([2 / (2 * k + 1) for k in range(_LOG_TERMS)], square, out)
        np.multiply(out, power, out=out)
        np.copyto(power, exponents)
        np.subtract(power, 0.5, out=power)
        np.multiply(power, _LOG_2, out=power)
        np.add(out, power, out=out)
        np.minimum(out, 0.0, out=out)
        np.multiply(out, -2.0, out=out)
        np.sqrt(out, out=out)
        # cos(2 pi v) = sin(2 pi w), w = |v - 1/2| - 1/4, of which |w| <= 1/4
        self._angle.uniform(rows, angle)
        np.subtract(angle, 0.5, out=angle)
        np.abs(angle, out=angle)
        np.subtract(angle, 0.25, out=angle)
        np.multiply(angle, 2 * math.pi, out=angle)
        np.multiply(angle, angle, out=square)
        _polynomial([(-1) ** k / math.factorial(2 * k + 1) for k in range(_SINE_TERMS)], square, power)
        np.multiply(power, angle, out=power)
        return np.multiply(out, power, out=out)


def _polynomial(coefficients: list[float], x: Array, out: Array) -> None:
    """Write the polynomial with these coefficients, lowest power first, at `x` to `out`."""
    out.fill(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        np.multiply(out, x, out=out)
        np.add(out, coefficient, out=out)


class SyntheticRows(ComputedRows):
    """Rows of synthetic data."""

    def __init__(self, data: schema.Synthetic, row_shape: tuple[int, ...], dtype: DTypeLike) -> None:
        super().__init__((data.samples, *row_shape), dtype)
        self.data = data
        # Targets need their row's inputs as well: the block is that of the inputs.
        self._block = Buffer((data.features,), np.float64).block


class UniformInputs(SyntheticRows):
    """Inputs of `linear`: uniform in [0, 1)."""

    def __init__(self, data: schema.Synthetic) -> None:
        super().__init__(data, (data.features,), np.float64)
        self._hash = CounterHash(data.seed, INPUTS, data.features)

    def _fill(self, rows: Indices, values: Array) -> None:
        self._hash.uniform(rows, values)


class LinearTargets(SyntheticRows):
    """Targets of `linear`: slope * (sum of the row's inputs) + intercept + uniform noise in [0, noise)."""

    def __init__(self, data: schema.Synthetic) -> None:
        super().__init__(data, (1,), np.float64)
        self._inputs = CounterHash(data.seed, INPUTS, data.features)
        self._noise = CounterHash(data.seed, NOISE, 1)
        self._x, self._sums = Buffer((data.features,), np.float64), Buffer((1,), np.float64)

    def _fill(self, rows: Indices, values: Array) -> None:
        x = self._inputs.uniform(rows, self._x.rows(len(rows)))
        sums = self._sums.rows(len(rows))
        np.copyto(sums, np.add.accumulate(x, axis=1, out=x)[:, -1:])  # one after the other, unlike NumPy's sum
        np.multiply(sums, self.data.slope, out=sums)
        np.multiply(self._noise.uniform(rows, values), self.data.noise, out=values)
        np.add(values, sums, out=values)
        np.add(values, self.data.intercept, out=values)


class CloudLabels(SyntheticRows):
    """Labels of `classification`: the class of a row is its hash modulo the number of classes."""

    def __init__(self, data: schema.Synthetic) -> None:
        super().__init__(data, (), np.int64)
        self._hash = CounterHash(data.seed, LABELS, 1)

    def _fill(self, rows: Indices, values: Array) -> None:
        bits = self._hash.bits(rows)
        np.remainder(bits, np.uint64(self.data.classes), out=bits)
        np.copyto(values, bits[:, 0], casting="unsafe")


class CloudInputs(SyntheticRows):
    """Inputs of `classification`: a Gaussian of deviation `noise` around the centre of the row's class."""

    def __init__(self, data: schema.Synthetic) -> None:
        super().__init__(data, (data.features,), np.float64)
        self._normal = NormalHash(data.seed, RADIUS, ANGLE, data.features)
        self._labels, self._classes = CloudLabels(data), Buffer((), np.int64)
        self._scratch = Buffer((data.features,), np.float64)
        self.centres = np.empty((data.classes, data.features))
        NormalHash(data.seed, CENTRE_RADIUS, CENTRE_ANGLE, data.features).normal(np.arange(data.classes), self.centres)
        # Two centres of deviation s in each of f directions lie s * sqrt(2 f) apart.
        self.centres *= DISTANCE / math.sqrt(2 * data.features)

    def _fill(self, rows: Indices, values: Array) -> None:
        self._normal.normal(rows, values)
        np.multiply(values, self.data.noise, out=values)
        classes = self._classes.rows(len(rows))
        self._labels.take(rows, classes)
        scratch = self._scratch.rows(len(rows))
        np.take(self.centres, classes, axis=0, out=scratch, mode="clip")
        np.add(values, scratch, out=values)


class SyntheticReader(Reader[schema.Synthetic]):
    """Computes synthetic data."""

    section = schema.Synthetic

    def read(self, data: schema.Synthetic, base: Path) -> Source:
        """Return rows that are computed when they are taken."""
        if data.kind == "linear":
            return Source(UniformInputs(data), LinearTargets(data), computed=True)
        return Source(CloudInputs(data), CloudLabels(data), computed=True)
