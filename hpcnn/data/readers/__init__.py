"""Readers of data, one module per format, and their registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcnn.data.readers.cifar import CifarReader
from hpcnn.data.readers.csv import CsvReader
from hpcnn.data.readers.digits import DigitsReader
from hpcnn.data.readers.hdf5 import Hdf5Reader
from hpcnn.data.readers.heat import HeatReader
from hpcnn.data.readers.idx import IdxReader
from hpcnn.data.readers.images import ImagesReader
from hpcnn.data.readers.memory import MemoryReader
from hpcnn.data.readers.npy import NpyReader
from hpcnn.data.readers.npz import NpzReader
from hpcnn.data.readers.parquet import FeatherReader, ParquetReader
from hpcnn.data.readers.reader import Reader
from hpcnn.data.readers.series import SeriesReader
from hpcnn.data.readers.shapes import ShapesReader
from hpcnn.data.readers.sklearn import SklearnReader
from hpcnn.data.readers.synthetic import SyntheticReader
from hpcnn.data.readers.text import TextReader
from hpcnn.data.readers.webdataset import WebDatasetReader
from hpcnn.data.readers.zarr import ZarrReader
from hpcnn.data.source import Source, with_features
from hpcnn.job import data as schema

READERS: tuple[Reader[Any], ...] = (
    DigitsReader(),
    NpyReader(),
    NpzReader(),
    CsvReader(),
    Hdf5Reader(),
    ZarrReader(),
    ParquetReader(),
    FeatherReader(),
    CifarReader(),
    ImagesReader(),
    WebDatasetReader(),
    IdxReader(),
    SklearnReader(),
    SyntheticReader(),
    ShapesReader(),
    TextReader(),
    HeatReader(),
    SeriesReader(),
    MemoryReader(),
)
_BY_SECTION = {reader.section: reader for reader in READERS}


def reader_of(data: schema.DataSection) -> Reader[Any]:
    """Return what reads the data of a section."""
    return _BY_SECTION[type(data)]


def read_source(data: schema.DataSection, base: Path) -> Source:
    """Read the data of a job; inputs have at least one feature.

    Relative paths start at `base`, the job file's folder, then at the working folder.
    """
    return with_features(reader_of(data).read(data, base))
