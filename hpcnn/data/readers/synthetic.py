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
INPUTS, NOISE, LABELS, RADIUS, ANGLE, CENTRES = range(6)
"""Independent random streams, one for each use."""
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
        sums = np.sum(x, axis=1, keepdims=True, out=self._sums.rows(len(rows)))
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
    """Inputs of `classification`: a Gaussian of deviation `noise` around the centre of the row's class.

    Normal numbers by Box and Muller (1958), two hashes each.
    """

    def __init__(self, data: schema.Synthetic) -> None:
        super().__init__(data, (data.features,), np.float64)
        self._radius = CounterHash(data.seed, RADIUS, data.features)
        self._angle = CounterHash(data.seed, ANGLE, data.features)
        self._labels, self._classes = CloudLabels(data), Buffer((), np.int64)
        self._scratch = Buffer((data.features,), np.float64)
        # Two centres of deviation s in each of f directions lie s * sqrt(2 f) apart.
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([data.seed, CENTRES])))
        self.centres = random.normal(0.0, DISTANCE / math.sqrt(2 * data.features), (data.classes, data.features))

    def _fill(self, rows: Indices, values: Array) -> None:
        scratch = self._scratch.rows(len(rows))
        self._radius.uniform(rows, values)
        np.subtract(1.0, values, out=values)  # (0, 1]: the logarithm is finite
        np.log(values, out=values)
        np.multiply(values, -2.0, out=values)
        np.sqrt(values, out=values)
        self._angle.uniform(rows, scratch)
        np.multiply(scratch, 2 * math.pi, out=scratch)
        np.multiply(values, np.cos(scratch, out=scratch), out=values)
        np.multiply(values, self.data.noise, out=values)
        classes = self._classes.rows(len(rows))
        self._labels.take(rows, classes)
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
