"""Readers of data, one module a format, and the registry of `[data] source`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcnn.data.readers import csv, digits, hdf5, idx, memory, npy, npz, parquet, sklearn, synthetic
from hpcnn.data.source import Source, with_features
from hpcnn.job import data as schema

READERS: dict[type[schema.DataSection], Callable[[Any, Path], Source]] = {
    schema.Digits: digits.read,
    schema.Npz: npz.read,
    schema.Npy: npy.read,
    schema.Idx: idx.read,
    schema.Csv: csv.read,
    schema.Hdf5: hdf5.read,
    schema.Parquet: parquet.read,
    schema.Sklearn: sklearn.read,
    schema.Synthetic: synthetic.read,
    schema.Memory: memory.read,
}
"""Reader of each section: ``read(section, folder of the job file) -> Source``."""


def read_source(data: schema.DataSection, base: Path) -> Source:
    """Read the data of a job; inputs have one feature at least.

    Relative paths start at `base`, the job file's folder, then at the working folder.
    """
    return with_features(READERS[type(data)](data, base))
