import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from hpcnn.data import source
from hpcnn.data.readers import npy, npz, read_source
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from tests.data.helpers import take

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = np.arange(20)


class Trap:
    """Unpickling it would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(header, content=b"", version=(1, 0)):
    text = f"{header}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + content


ARRAYS = {
    "float32": X,
    "labels": Y,
    "images": np.arange(60, dtype=np.uint8).reshape(5, 3, 4),
    "big endian": X.astype(">f8"),
    "fortran": np.asfortranarray(X),
    "bool": X > 0,
    "empty": np.empty((0, 3)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_npy(name, tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS[name])
    rows = npy.read_array(tmp_path / "a.npy")
    assert rows.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(take(rows), ARRAYS[name])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ARRAYS)
def test_npz(name, save, tmp_path):
    save(tmp_path / "a.npz", other=Y, x=ARRAYS[name])
    rows, other = npz.read_arrays(tmp_path / "a.npz", "x", "other")
    assert rows.dtype == ARRAYS[name].dtype
    np.testing.assert_array_equal(take(rows), ARRAYS[name])
    np.testing.assert_array_equal(take(other), Y)


def test_version_2_headers(tmp_path):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"
    (tmp_path / "a.npy").write_bytes(with_header(header, b"\0" * 8, (2, 0)))
    np.testing.assert_array_equal(take(npy.read_array(tmp_path / "a.npy")), [0, 0])


@pytest.mark.parametrize(
    ("name", "read", "mapped"),
    [
        ("a.npy", npy.read_array, True),
        ("stored.npz", lambda path: npz.read_arrays(path, "x")[0], True),
        ("deflated.npz", lambda path: npz.read_arrays(path, "x")[0], False),
        ("f.npy", npy.read_array, False),
    ],
)
def test_what_is_mapped_takes_no_memory(name, read, mapped, tmp_path):
    values = np.arange(2**18, dtype=np.float64).reshape(-1, 4)
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "f.npy", np.asfortranarray(values))
    np.savez(tmp_path / "stored.npz", x=values)
    np.savez_compressed(tmp_path / "deflated.npz", x=values)
    tracemalloc.start()
    try:
        rows = read(tmp_path / name)
        np.testing.assert_array_equal(take(rows, indices=[5]), values[5:6])
        assert (tracemalloc.get_traced_memory()[1] < 2**20) is mapped
    finally:
        tracemalloc.stop()
    assert rows.mapped is mapped


def test_read_npy(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    data = schema.Npy(x_path="x.npy", y_path="y.npy")
    assert read_source(data, tmp_path).validation is None
    data = schema.Npy(x_path="x.npy", y_path="y.npy", validation_x_path="y.npy", validation_y_path="x.npy")
    source = read_source(data, tmp_path)
    np.testing.assert_array_equal(take(source.x), X)
    np.testing.assert_array_equal(take(source.y), Y)
    np.testing.assert_array_equal(take(source.validation[0]), Y[:, None])
    np.testing.assert_array_equal(take(source.validation[1]), X)


@pytest.mark.parametrize("given", ["x", "y"])
def test_half_a_validation_pair(given, tmp_path):
    data = schema.Npy(x_path="x.npy", y_path="y.npy", **{f"validation_{given}_path": "v.npy"})
    other = {"x": "y", "y": "x"}[given]
    with pytest.raises(JobError, match=f"validation_{given}_path is given, but data.validation_{other}_path is not"):
        read_source(data, tmp_path)


def test_read_npz(tmp_path):
    np.savez(tmp_path / "d.npz", x=X, y=Y, z=X + 1)
    np.savez_compressed(tmp_path / "v.npz", z=X[:4], y=Y[:4])
    source = read_source(schema.Npz(path="d.npz"), tmp_path)
    np.testing.assert_array_equal(take(source.x), X)
    np.testing.assert_array_equal(take(source.y), Y)
    assert source.validation is None
    source = read_source(schema.Npz(path="d.npz", x="z", validation_path="v.npz"), tmp_path)
    np.testing.assert_array_equal(take(source.x), X + 1)
    np.testing.assert_array_equal(take(source.validation[0]), X[:4])
    np.testing.assert_array_equal(take(source.validation[1]), Y[:4])


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
DAMAGED_NPY = {
    "empty file": (b"", "no valid .npy header"),
    "wrong magic": (b"PK" + npy_bytes(X)[2:], "no valid .npy header"),
    "cut in the header": (npy_bytes(X)[:50], "no valid .npy header"),
    "garbled header": (with_header("{'descr': (("), "no valid .npy header"),
    "version": (with_header("{}", version=(9, 0)), "version"),
    "truncated": (npy_bytes(X)[:-5], r"declares \(20, 3\) float32, 240 bytes, but 235 bytes follow"),
    "too long": (npy_bytes(X) + b"..", "declares .* 240 bytes, but 242 bytes follow"),
    "huge": (with_header(HEADER % "(2305843009213693952, 9)"), "declares .* bytes, but 0 bytes follow"),
    "negative": (with_header(HEADER % "(-2, -3)", b"\0" * 24), r"declares \(-2, -3\)"),
    "objects": (npy_bytes(np.array([Trap(), None])), "holds Python objects.*refused"),
    "text": (npy_bytes(np.array(["a", "b"])), "has dtype <U1; allowed are booleans, integers and real floats"),
    "complex": (npy_bytes(X.astype(np.complex64)), "has dtype complex64"),
    "structured": (npy_bytes(np.zeros(3, [("a", "f4")])), "has dtype"),
    "scalar": (npy_bytes(np.float32(3)), "is a single number"),
}


@pytest.mark.parametrize("case", DAMAGED_NPY)
def test_damaged_npy(case, tmp_path):
    content, text = DAMAGED_NPY[case]
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        npy.read_array(tmp_path / "a.npy")
    assert "a.npy" in str(caught.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("case", DAMAGED_NPY)
def test_damaged_members(case, compression, tmp_path):
    content, text = DAMAGED_NPY[case]
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=text):
        npz.read_arrays(tmp_path / "a.npz", "x")


def archive_bytes(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return bytearray(stream.getvalue())


def test_truncated_archives(tmp_path):
    for save in (np.savez, np.savez_compressed):
        content = archive_bytes(save, x=X, y=Y)
        for length in (0, 1, len(content) // 2, len(content) - 1):
            (tmp_path / "a.npz").write_bytes(content[:length])
            with pytest.raises(DataError, match=r"a\.npz can't be read: no valid \.npz archive"):
                npz.read_arrays(tmp_path / "a.npz", "x")


def test_corrupt_archives(tmp_path):
    """A flipped bit in any deflated byte is found, by inflation or by the checksum."""
    content = archive_bytes(np.savez_compressed, x=X)
    start, stop = 30 + len("x.npy") + 20, content.index(b"PK\x01\x02")
    for position in range(start, stop, 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(DataError, match="can't be read"):
            npz.read_arrays(tmp_path / "a.npz", "x")


def test_a_directory_that_points_nowhere(tmp_path):
    content = archive_bytes(np.savez, x=X)
    entry = content.index(b"PK\x01\x02")
    content[entry + 42 : entry + 46] = struct.pack("<I", 17)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="can't be read"):
        npz.read_arrays(tmp_path / "a.npz", "x")


def test_a_member_that_claims_more_than_the_file_holds(tmp_path):
    content = archive_bytes(np.savez, x=X)
    entry = content.index(b"PK\x01\x02")
    huge = with_header(HEADER % "(1000000, 3)")
    content[30 + 5 + 20 : 30 + 5 + 20 + len(huge)] = huge
    for place in (entry + 20, entry + 24):
        content[place : place + 4] = struct.pack("<I", 12_000_000 + len(huge))
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="the file ends within it"):
        npz.read_arrays(tmp_path / "a.npz", "x")


def test_zip_bombs(tmp_path, monkeypatch):
    """Zeros deflate a thousandfold: that is no fault, as long as this machine can hold them."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 100)))
    assert npz.read_arrays(tmp_path / "a.npz", "x")[0].shape == (1000, 100)
    monkeypatch.setattr(source, "free_memory", lambda: 500_000)
    with pytest.raises(
        DataError,
        match=r"'x' in .* takes 800128 bytes of memory, but only 500000 are .* Save it",
    ):
        npz.read_arrays(tmp_path / "a.npz", "x")


def test_a_member_that_claims_more_than_deflate_can_do(tmp_path):
    content = archive_bytes(np.savez_compressed, x=X)
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**31)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="declares 2147483648 bytes, but it can't hold more than"):
        npz.read_arrays(tmp_path / "a.npz", "x")


def test_unknown_array(tmp_path):
    np.savez(tmp_path / "a.npz", images=X, labels=Y)
    with pytest.raises(
        DataError,
        match=r"unknown array in .*a\.npz 'image'. Did you mean 'images'\? Known: images, labels\. "
        r"Name those of inputs and targets by data\.x and data\.y\.",
    ):
        npz.read_arrays(tmp_path / "a.npz", "image")


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    job, work = tmp_path / "job", tmp_path / "work"
    for folder in (job, work):
        folder.mkdir()
    monkeypatch.chdir(work)
    data = schema.Npz(path="a.npz")
    with pytest.raises(DataError, match=r"no data file 'a.npz': looked for .*job/a.npz and .*work/a.npz"):
        read_source(data, job)
    np.savez(work / "a.npz", x=X[:1], y=Y[:1])
    assert read_source(data, job).x.shape == (1, 3)
    np.savez(job / "a.npz", x=X[:2], y=Y[:2])
    assert read_source(data, job).x.shape == (2, 3)
    assert read_source(schema.Npz(path=str(work / "a.npz")), job).x.shape == (1, 3)
    with pytest.raises(DataError, match="is a folder, but a file is needed"):
        read_source(schema.Npz(path=str(work)), job)
    with pytest.raises(DataError, match=r"looked for /nowhere/a.npz\. Relative"):
        read_source(schema.Npz(path="/nowhere/a.npz"), job)
