"""Synthetic data: each value is a hash of (seed, row, column), so that a table of any size needs no memory."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from hpcnn.data.random_numbers import CounterHash, NormalHash
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, Buffer, ComputedRows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.job import data as schema

INPUTS, NOISE, LABELS, RADIUS, ANGLE, CENTRE_RADIUS, CENTRE_ANGLE = range(7)
"""Independent random streams, one for each use."""
DISTANCE = 2.0
"""Mean distance of the centres of two clusters: two standard deviations if `noise` is 1."""


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
