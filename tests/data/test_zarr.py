import base64
import json
import struct
import sys

import numpy as np
import pytest

from hpcnn.data.chunks import chunk_rows_of, stored
from hpcnn.data.load import load
from hpcnn.data.readers import read_source
from hpcnn.data.readers.zarr import ZarrReader
from hpcnn.errors import DataError, MissingExtraError
from hpcnn.job import data as schema
from tests.data.helpers import take
from tests.require import require

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = np.arange(20)
JOB = schema.Zarr(path="d.zarr")


@pytest.fixture
def group(tmp_path):
    group = require("zarr").open_group(tmp_path / "d.zarr", mode="w")
    group.create_array("y", data=Y, chunks=(20,))
    return group


def rows_of(folder, **settings):
    source = read_source(schema.Zarr(path="d.zarr", **settings), folder)
    return take(source.x), source.notes


def test_shards_chunks_and_byte_order(group, tmp_path):
    group.create_array("x", data=X.astype(">f4"), chunks=(4, 2), shards=(8, 4))
    source = read_source(JOB, tmp_path)
    np.testing.assert_array_equal(take(source.x), X)
    assert [chunk_rows_of(rows) for rows in stored(source.x)] == [4]
    rows = [19, 0, 0, 7, 8]
    np.testing.assert_array_equal(take(source.x, indices=rows), X[rows])
    assert take(source.x, indices=[]).shape == (0, 3)


def test_few_decoded_chunks_are_kept(group, tmp_path, monkeypatch):
    monkeypatch.setattr("hpcnn.data.readers.zarr.CACHE_BYTES", 2 * 4 * 3 * 4)
    group.create_array("x", data=X, chunks=(4, 2))
    (rows,) = stored(read_source(JOB, tmp_path).x)
    np.testing.assert_array_equal(take(rows), X)
    assert list(rows._decoded) == [3, 4]


def test_fill_values_mark_missing_ones_only_where_they_are_meant_to(group, tmp_path):
    values = X.copy()
    values[3, 1] = -1

    def refused(name):
        with pytest.raises(DataError, match=r"marked as missing in the file .*in row 3"):
            load(schema.Zarr(path="d.zarr", x=name), seed=1, dtype="float32", base=tmp_path)

    zero = group.create_array("own", shape=X.shape, dtype="f4", chunks=(4, 3), fill_value=-1.0)
    zero[:] = values
    np.testing.assert_array_equal(rows_of(tmp_path, x="own")[0], values)
    text = base64.standard_b64encode(struct.pack("<d", -1.0)).decode()
    group.create_array("xarray 3", data=values, attributes={"_FillValue": text})
    refused("xarray 3")
    old = require("zarr").open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    array = old.create_array("x", shape=X.shape, dtype="f4", chunks=(4, 3), fill_value=-1.0,
                             attributes={"_ARRAY_DIMENSIONS": ["time", "place"]})  # fmt: skip
    array[:] = values
    old.create_array("y", data=Y)
    with pytest.raises(DataError, match=r"marked as missing in the file \(fillvalue = -1.0\).*in row 3"):
        load(schema.Zarr(path="old.zarr"), seed=1, dtype="float32", base=tmp_path)


def test_chunks_that_are_not_there(group, tmp_path):
    array = group.create_array("x", shape=(20, 3), dtype="f4", chunks=(4, 3), fill_value=0.5)
    with pytest.raises(DataError, match=r"'x' in .* was declared, .* but 0 of its 5 chunks are there"):
        rows_of(tmp_path)
    array[:8] = X[:8]
    values, notes = rows_of(tmp_path)
    assert (values[8:] == 0.5).all()
    assert any("3 of its 5 chunks are not there, and are read as 0.5" in note for note in notes)


def test_codecs_that_run_code_are_refused(tmp_path):
    group = require("zarr").open_group(tmp_path / "d.zarr", mode="w", zarr_format=2)
    group.create_array("x", data=X, chunks=(4, 3))
    group.create_array("y", data=Y)
    path = tmp_path / "d.zarr/x/.zarray"
    metadata = json.loads(path.read_text())
    for key, codec, text in (
        ("compressor", {"id": "base64"}, r"packed by the codec 'base64', which .* might run code, and is refused"),
        ("compressor", {"id": "pickle", "protocol": 5}, r"d\.zarr can't be read: .*pickle"),
        ("filters", [{"id": "pickle", "protocol": 5}], r"d\.zarr can't be read: .*pickle"),
    ):
        path.write_text(json.dumps({**metadata, key: codec}))
        with pytest.raises(DataError, match=text):
            rows_of(tmp_path)


def test_damaged(group, tmp_path):
    group.create_array("x", data=X, chunks=(4, 3))
    chunk = tmp_path / "d.zarr/x/c/1/0"
    sound = chunk.read_bytes()
    for damaged in (b"", b"nothing", sound[:-3]):
        chunk.write_bytes(damaged)
        with pytest.raises(DataError, match=r"array 'x' in .*d\.zarr can't be read"):
            rows_of(tmp_path)
    (tmp_path / "d.zarr/x/zarr.json").write_text("{")
    with pytest.raises(DataError, match=r"d\.zarr can't be read: of the array 'x'"):
        rows_of(tmp_path)


def test_no_store(tmp_path):
    (tmp_path / "d.zarr").mkdir()
    with pytest.raises(DataError, match=r"d\.zarr can't be read: no Zarr store"):
        rows_of(tmp_path)
    require("zarr").save_array(tmp_path / "one.zarr", X)
    with pytest.raises(DataError, match=r"one\.zarr is one Zarr array, but a group with arrays by name is needed"):
        read_source(schema.Zarr(path="one.zarr"), tmp_path)
    with pytest.raises(DataError, match=r"no data file 'none\.zarr'"):
        read_source(schema.Zarr(path="none.zarr"), tmp_path)
    (tmp_path / "a.zarr.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.zarr\.zip can't be read: no Zarr store"):
        read_source(schema.Zarr(path="a.zarr.zip"), tmp_path)


@pytest.mark.parametrize(("values", "text"), [(X + 1j, "has dtype complex"), (np.float32(3), "single number")])
def test_no_rows_of_numbers(group, tmp_path, values, text):
    group.create_array("x", data=np.asarray(values))
    with pytest.raises(DataError, match=text):
        rows_of(tmp_path)


def test_addresses(tmp_path):
    zarr, name = require("zarr"), "memory://d.zarr"
    require("fsspec")
    group = zarr.open_group(name, mode="w")
    group.create_array("x", data=X)
    group.create_array("y", data=Y)
    np.testing.assert_array_equal(take(read_source(schema.Zarr(path=name), tmp_path).x), X)
    with pytest.raises(DataError, match="nothing://d can't be read: no Zarr store"):
        ZarrReader().variables("nothing://d", ["x"])


def test_missing_package(tmp_path, monkeypatch):
    (tmp_path / "d.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"reading Zarr stores needs the package 'zarr'.*hpcnn\[zarr\]"):
        read_source(JOB, tmp_path)
