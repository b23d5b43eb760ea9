"""Whole chunks packed by deflate are unpacked without HDF5's filters, and give the same rows."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpcnn.data.readers.hdf5 import Hdf5Rows
from hpcnn.data.readers.hdf5_chunks import DeflatedChunks
from hpcnn.errors import DataError
from tests.require import require


@pytest.fixture(autouse=True)
def inflate() -> None:
    require("isal.isal_zlib")


def written(folder: Path, values: Any, **options: Any) -> Any:
    path = folder / "d.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=values, **{"compression": "gzip", "chunks": (8, *values.shape[1:])} | options)
    return h5py.File(path, "r")["x"]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8", "u1", "i2", "<i8"])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("bounds", [(0, 30), (0, 8), (8, 24), (3, 27), (24, 30), (5, 7), (16, 29)])
def test_rows_are_those_of_hdf5(
    dtype: str, shuffle: bool, bounds: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(0, 50, (30, 3, 2)).astype(dtype)
    rows = Hdf5Rows(written(tmp_path, values, shuffle=shuffle), "x")
    chunks: list[int] = []
    read = DeflatedChunks.read
    monkeypatch.setattr(DeflatedChunks, "read", lambda self, out, first, what: (
        chunks.append(first), read(self, out, first, what))[1])  # fmt: skip
    out = np.empty((bounds[1] - bounds[0], 3, 2), dtype)
    rows.take(np.arange(*bounds), out)
    np.testing.assert_array_equal(out, values[slice(*bounds)])
    assert chunks == [first for first in (0, 8, 16) if bounds[0] <= first and first + 8 <= bounds[1]]


@pytest.mark.parametrize(
    "options", [{"compression": "lzf"}, {"fletcher32": True}, {"chunks": (8, 1)}, {"scaleoffset": 0}]
)
def test_what_is_stored_in_another_way_is_left_to_hdf5(options: dict[str, Any], tmp_path: Path) -> None:
    assert DeflatedChunks.of(written(tmp_path, np.arange(60).reshape(30, 2), **options)) is None


def test_chunks_that_were_never_written_or_have_skipped_filters(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "d.h5", "w") as file:
        x = file.create_dataset("x", (24, 2), "f4", chunks=(8, 2), compression="gzip", fillvalue=7)
        x.id.write_direct_chunk((8, 0), np.full((8, 2), 3, "f4").tobytes(), filter_mask=1)
        x[16:] = 5
    rows = Hdf5Rows(h5py.File(tmp_path / "d.h5", "r")["x"], "x")
    out = np.empty((24, 2), np.float32)
    rows.take(np.arange(24), out)
    assert out[:, 0].tolist() == [7] * 8 + [3] * 8 + [5] * 8


@pytest.mark.parametrize("packed", [b"no deflate", b"short", b"long"])
def test_a_damaged_chunk(packed: bytes, tmp_path: Path) -> None:
    data = {b"short": zlib.compress(b"\0" * 60), b"long": zlib.compress(b"\0" * 10**6)}.get(packed, packed)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        x = file.create_dataset("x", (8, 2), "f4", chunks=(8, 2), compression="gzip")
        x.id.write_direct_chunk((0, 0), data)
    rows = Hdf5Rows(h5py.File(tmp_path / "d.h5", "r")["x"], "data set 'x' in d.h5")
    with pytest.raises(DataError, match=r"data set 'x' in d\.h5 can't be read: .*Is the file complete"):
        rows.take(np.arange(8), np.empty((8, 2), np.float32))
