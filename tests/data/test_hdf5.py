import gc
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.data import rows as rows_module
from hpcnn.data.chunks import usual_chunk_rows
from hpcnn.data.readers import read_source
from hpcnn.errors import DataError, MissingExtraError
from hpcnn.job import data as schema
from tests.data.helpers import read_datasets, take
from tests.require import require

X = np.random.default_rng(0).normal(size=(40, 3, 2))
Y = np.arange(40)


@pytest.fixture
def h5py():
    return require("h5py")


@pytest.fixture
def path(h5py, tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = X
        file["y"] = Y
        file.create_dataset("deep/chunked", data=X.astype(">f4"), chunks=(7, 3, 2), compression="gzip")
        file["empty"] = np.empty((0, 3))
        file["text"] = [b"a", b"b"]
        file["scalar"] = 3.0
    return tmp_path / "d.h5"


def test_read(h5py, path):
    source = read_source(schema.Hdf5(path="d.h5"), path.parent)
    np.testing.assert_array_equal(take(source.x), X)
    np.testing.assert_array_equal(take(source.y), Y)
    assert source.validation is None
    source = read_source(schema.Hdf5(path="d.h5", x="/deep/chunked", validation_path=str(path)), path.parent)
    gc.collect()  # nothing but the rows keeps the file open
    np.testing.assert_array_equal(take(source.x, np.float32), X.astype(np.float32))
    np.testing.assert_array_equal(take(source.validation[1]), Y)


@settings(max_examples=30, deadline=None)
@given(indices=st.lists(st.integers(0, 39), max_size=60), block=st.sampled_from([1, 200, 2**17]))
def test_rows_in_any_order_with_repeats(indices, block, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.h5"
    if not path.exists():
        with require("h5py").File(path, "w") as file:
            file["x"] = X
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "BLOCK_BYTES", block)
        (rows,) = read_datasets(path, "x")
    np.testing.assert_array_equal(take(rows, indices=indices), X[indices])


def test_no_samples(path):
    assert take(read_datasets(path, "empty")[0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("z", r"unknown data set in .*d\.h5 'z'.*Known: deep/chunked, empty, scalar, text, x, y"),
        ("deep/chunkd", r"Did you mean 'deep/chunked'"),
        ("deep", r"unknown data set in .* 'deep'"),
        ("text", r"data set 'text' in .* holds text; allowed are booleans"),
        ("scalar", r"data set 'scalar' in .* is a single number"),
    ],
)
def test_bad_keys(key, text, path):
    with pytest.raises(DataError, match=text):
        read_source(schema.Hdf5(path=str(path), x=key), path.parent)


def test_damaged(path):
    content = path.read_bytes()
    for damaged in (b"", b"no file", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"d\.h5 can't be read: no valid HDF5 file"):
            read_datasets(path, "x")


def test_missing_package(tmp_path, monkeypatch):
    (tmp_path / "d.h5").touch()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"reading HDF5 files needs the package 'h5py'.*hpcnn\[hdf5\]"):
        read_source(schema.Hdf5(path="d.h5"), tmp_path)


@pytest.mark.parametrize(("chunks", "cache"), [((4096, 512), 2**24), ((64, 300), 64 * 600 * 8)])
def test_chunks_that_hold_a_row_are_kept_while_its_rows_are_read(tmp_path, chunks, cache):
    with require("h5py").File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=np.ones((4096, 512)), chunks=chunks, compression="gzip")
    (rows,) = read_datasets(tmp_path / "d.h5", "x")
    assert rows._held[0].id.get_access_plist().get_chunk_cache()[1] == cache


def test_what_lies_in_one_piece_is_mapped(h5py, tmp_path):
    """Also behind a block of the user's, and in the file of a link; nothing else is, whatever its offset."""
    values = np.arange(24.0).reshape(8, 3)
    with h5py.File(tmp_path / "d.h5", "w", userblock_size=512) as file:
        file["whole"], file["swapped"] = values, values.astype(">f4")
        file["flags"] = values > 5
        file.create_dataset("chunked", data=values, chunks=(2, 3))
        file.create_dataset("outside", data=values, external=[(str(tmp_path / "raw.bin"), 0, values.nbytes)])
        compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        compact.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_DOUBLE, space, compact).write(space, space, values)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("d.h5", "whole")
    mapped = {"whole": True, "swapped": True, "flags": False, "chunked": False, "outside": False, "compact": False}
    order = np.array([7, 0, 0, 3])
    for name, expected in mapped.items():
        (rows,) = read_datasets(tmp_path / "d.h5", name)
        assert (rows.mapped_rows is not None) is expected, name
        np.testing.assert_array_equal(take(rows, indices=order), (values > 5 if name == "flags" else values)[order])
    (rows,) = read_datasets(tmp_path / "links.h5", "linked")
    assert rows.mapped_rows is not None
    np.testing.assert_array_equal(take(rows), values)


def test_chunks_that_lie_in_the_file_as_they_are_are_mapped(h5py, tmp_path):
    """Where they hold whole rows, have no filter, and have all been written; the last one may hold fewer rows."""
    values = np.arange(66, dtype=np.int16).reshape(11, 3, 2)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        late, turned = (file.create_dataset(name, values.shape, "i2", chunks=(4, 3, 2)) for name in ("late", "turned"))
        for start in (8, 0, 4):  # so that they lie in the file in another order
            turned[start : start + 4] = late[start : start + 4] = values[start : start + 4]
        file.create_dataset("swapped", data=values.astype(">f4"), chunks=(4, 3, 2))
        file.create_dataset("narrow", data=values, chunks=(4, 3, 1))
        file.create_dataset("packed", data=values, chunks=(4, 3, 2), compression="gzip")
        file.create_dataset("partly", values.shape, "i2", chunks=(4, 3, 2))[:8] = values[:8]
    with h5py.File(tmp_path / "behind.h5", "w", userblock_size=512) as file:
        file.create_dataset("behind", data=values, chunks=(4, 3, 2))
    expected = {"late": True, "turned": True, "swapped": True, "narrow": False, "packed": False, "partly": False}
    order = np.array([10, 0, 7, 7, 3])
    for name, mapped in (expected | {"behind": False}).items():
        (rows,) = read_datasets(tmp_path / ("behind.h5" if name == "behind" else "d.h5"), name)
        assert (rows.mapped_rows is not None) is mapped, name
        assert rows.chunk_rows == (0 if mapped else 4)
        assert usual_chunk_rows(rows) == 4  # the order of windows depends on it
        right = np.where(np.arange(11)[:, None, None] < 8, values, 0) if name == "partly" else values
        for dtype in (rows.dtype, np.float64):
            out = np.empty((5, 3, 2), dtype)
            rows.take(order, out)
            np.testing.assert_array_equal(out, right[order])
