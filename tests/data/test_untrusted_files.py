"""Data files from someone else end in a clear error: one test for each class of fault that the fuzzer has found."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from hpcnn.data import source
from hpcnn.data.load import load
from hpcnn.data.other_files import read_inputs
from hpcnn.data.readers import idx, npy, npz, read_source
from hpcnn.data.tables.feather_sizes import unpacked_bytes
from hpcnn.errors import DataError
from hpcnn.job import data as schema
from tests.data.helpers import read_datasets, take
from tests.fuzz.crafted import MARKER, pickled_npy, zip_bomb, zipped
from tests.fuzz.samples import X, Y, npy_bytes, npz_bytes
from tests.fuzz.sound import parquet_bytes
from tests.fuzz.sound_grids import hdf5_bytes
from tests.require import require

# ---------------------------------------------------------------------------------------------------------------- paths

PATHS = ["a/" * 3000, "x" * 300, "a\0b", "~nobody-here/x", "loop", "\ud800"]


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
@pytest.mark.parametrize("kind", [schema.Npz, schema.Idx])
def test_paths_that_can_not_be(kind: type[schema.Npz | schema.Idx], path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    section = schema.Npz(path=path) if kind is schema.Npz else schema.Idx(folder=path)
    with pytest.raises(DataError, match=r"is not accessible: .*Give another path|no data file|does not exist"):
        read_source(section, tmp_path)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.idx", "a.gz", "a.csv"])
def test_files_that_can_be_opened_but_not_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.symlink_to("/proc/self/mem")
    readers: dict[str, Callable[[], object]] = {
        "a.npy": lambda: npy.read_array(path),
        "a.npz": lambda: npz.read_arrays(path, "x"),
        "a.csv": lambda: read_inputs(str(path), schema.Digits(), tmp_path),
    }
    with pytest.raises(DataError, match=rf"{name} can't be read"):
        readers.get(name, lambda: idx.read_idx(path))()


# -------------------------------------------------------------------------------------------------------- npy, npz, idx

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"


def npy_file(header: str, length: int | None = None, content: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(text) if length is None else length) + text + content


HOSTILE_NPY = {
    "a header of 4 GB": (npy_file(HEADER % "(2, 3)", 2**32 - 1), "declared length of 4294967295 bytes"),
    "a header too deep for the parser": (npy_file("[" * 5000), "no valid .npy header"),
    "a header too deep for Python": (npy_file("-" * 9000 + "1"), "no valid .npy header"),
    "a long header": (npy_file("1" * 9000), "no valid .npy header"),
    "nothing, of a shape that NumPy can't count": (npy_file(HEADER % f"(0, {2**62})"), "has shape .*NumPy supports"),
    "65 axes": (npy_file(HEADER % f"{(1,) * 65}", content=b"1234"), "has shape .*NumPy supports 64 axes"),
}


@pytest.mark.parametrize("case", HOSTILE_NPY)
@pytest.mark.parametrize("form", ["npy", "stored", "deflated"])
def test_hostile_arrays(case: str, form: str, tmp_path: Path) -> None:
    content, words = HOSTILE_NPY[case]
    path = tmp_path / "a"
    path.write_bytes(content)
    if form != "npy":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if form == "stored" else zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=words) as caught:
        npy.read_array(path) if form == "npy" else npz.read_arrays(path, "x")
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_how_a_header_is_written_is_no_matter_of_warnings(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy_file(HEADER % "(2L,)", content=bytes(8)))  # as Python 2 wrote it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(take(npy.read_array(path)), [0, 0])


@pytest.mark.parametrize("number", range(5))
def test_pickles_are_never_loaded(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickled_npy(b"", Random(number))
    Path("a.npy").write_bytes(content)
    Path("a.npz").write_bytes(zipped("x.npy", content, Random(number)))
    for read in (lambda: npy.read_array(Path("a.npy")), lambda: npz.read_arrays(Path("a.npz"), "x")):
        with pytest.raises(DataError, match=r"Python objects|no valid .npy header|compressed by method"):
            read()
    assert not Path(MARKER).exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_numpy_never_writes(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("x.npy", npy_bytes(X))
    with pytest.raises(DataError, match=rf"'x' in .*a\.npz can't be read: it is compressed by method {method}"):
        npz.read_arrays(tmp_path / "a.npz", "x")


@pytest.mark.parametrize("number", range(8))
def test_bombs(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(zip_bomb(b"", Random(number)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"declares .* bytes, but|declared length of 4294967295 bytes|Bad CRC-32"):
            npz.read_arrays(path, "x")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_a_member_that_is_said_to_be_longer_than_the_file(tmp_path: Path) -> None:
    """Its declared sizes fit each other, so that only the file's own length tells."""
    content = bytearray(npz_bytes(np.savez_compressed, x=X))
    entry = content.index(b"PK\1\2")
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**30, 2**31)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"'x' in .* can't be read: the file ends within it"):
        npz.read_arrays(tmp_path / "a.npz", "x")


def test_a_fortran_array_that_memory_can_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(X))
    monkeypatch.setattr(source, "free_memory", lambda: X.nbytes - 1)
    with pytest.raises(DataError, match=r"a\.npy takes 384 bytes of memory, .*only 383 are .* Save .* C order"):
        npy.read_array(tmp_path / "a.npy")
    monkeypatch.setattr(source, "free_memory", lambda: X.nbytes)
    np.testing.assert_array_equal(take(npy.read_array(tmp_path / "a.npy")), X)


@pytest.mark.parametrize("sizes", [(1,) * 65, (0, *(2**32 - 1,) * 3)])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_idx_files_of_shapes_that_numpy_can_not_make(sizes: tuple[int, ...], name: str, tmp_path: Path) -> None:
    content = bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(0 not in sizes)
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "a.gz" else content)
    with pytest.raises(DataError, match=rf"{name} has shape .*NumPy supports 64 axes"):
        idx.read_idx(tmp_path / name)


# ------------------------------------------------------------------------------------------- csv, hdf5, parquet, values


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_the_name_of_a_csv_file_does_not_say_that_it_is_packed(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_text("a,label\n1,2\n")
    read = read_source(schema.Csv(path=f"a{ending}", targets=["label"]), tmp_path)
    np.testing.assert_array_equal(take(read.x), [[1]])


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_csv_file_that_memory_can_not_hold(
    pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_bytes(pack(b"a,label\n" + b"1,2\n" * 600_000))
    monkeypatch.setattr(source, "free_memory", lambda: 4_000_000)
    with pytest.raises(DataError, match=r"a\.csv, unpacked, takes 4194304 bytes of memory, but only 4000000"):
        read_inputs("a.csv", schema.Digits(), tmp_path)


@pytest.mark.parametrize("text", ["a,label\n1,1\n" + "x" * 50_000 + ",1\n", "a" * 50_000 + ",label\n1,1\nx,1\n"])
def test_messages_do_not_quote_whole_cells(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"column 'a.* holds 'x.*among numbers, the first in row 1") as caught:
        load(schema.Csv(path="a.csv", targets=["label"]), seed=0, dtype="float64", base=tmp_path)
    assert len(str(caught.value)) < 1000


def test_messages_do_not_list_thousands_of_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(f"column{i}," for i in range(5000)) + "label\n" + "1," * 5000 + "2\n")
    (tmp_path / "v.csv").write_text("a,label\n1,2\n")
    with pytest.raises(DataError, match=r"the columns of .*v\.csv \(a, label\) are not those of") as caught:
        read_source(schema.Csv(path="a.csv", targets=["label"], validation_path="v.csv"), tmp_path)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize("scale", ["standardize", "minmax"])
def test_values_too_large_to_scale(scale: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=[[1.7e308], [-1.7e308], [0.0]], y=[0.0, 1.0, 2.0])
    section = schema.Npz(path="a.npz", scale=scale)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf'data.scale = "{scale}": inputs of the training data are so large'):
        load(section, seed=0, dtype="float64", base=tmp_path)


def test_a_nan_that_signals_is_found_without_a_warning(tmp_path: Path) -> None:
    x = X.copy()
    x.view(np.uint32)[1, 1] = 0x7FA00000
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    with pytest.raises(DataError, match=r"column 1 holds 1 value of 24 that is not finite"):
        load(schema.Npz(path="a.npz"), seed=0, dtype="float64", base=tmp_path)


def test_such_a_nan_in_a_parquet_file(tmp_path: Path) -> None:
    require("pyarrow")
    a = X[:, 0].copy()
    a.view(np.uint32)[1] = 0x7FA00000
    (tmp_path / "a.parquet").write_bytes(parquet_bytes({"a": a, "b": X[:, 1].astype(np.float64), "label": Y}))
    with pytest.raises(DataError, match=r"column 'a' \(number 0\) holds 1 value of 24 that is missing"):
        load(schema.Parquet(path="a.parquet", targets=["label"]), seed=0, dtype="float64", base=tmp_path)


def _sparse(file: object) -> None:
    file.create_dataset("x", (4, 2**40), np.float32)  # type: ignore[attr-defined]


def _chunked(file: object) -> None:
    file.create_dataset("x", data=X, chunks=(8, 4), compression="gzip")  # type: ignore[attr-defined]


def test_an_hdf5_file_that_declares_more_than_it_stores(tmp_path: Path) -> None:
    require("h5py")
    (tmp_path / "a.h5").write_bytes(hdf5_bytes(_sparse))
    with pytest.raises(DataError, match=r"'x' in .*a\.h5 can't be read: it declares .* bytes, but the file has"):
        read_datasets(tmp_path / "a.h5", "x")


def test_hdf5_chunks_that_are_damaged_or_lost(tmp_path: Path) -> None:
    h5py, path = require("h5py"), tmp_path / "a.h5"
    path.write_bytes(hdf5_bytes(_chunked))
    with h5py.File(path) as file:
        chunk = file["x"].id.get_chunk_info(1)
    content = path.read_bytes()
    path.write_bytes(content[: chunk.byte_offset + 5] + b"\xff" * 20 + content[chunk.byte_offset + 25 :])
    (rows,) = read_datasets(path, "x")
    with pytest.raises(DataError, match=r"data set 'x' in .*a\.h5 can't be read"):
        take(rows)
    address, other = struct.pack("<Q", chunk.byte_offset), tmp_path / "b.h5"  # the library has `path` open
    assert content.count(address) == 1
    other.write_bytes(content.replace(address, struct.pack("<Q", len(content) - 1)))
    with pytest.raises(DataError, match="a part of it lies outside of the file"):
        read_datasets(other, "x")


@pytest.mark.parametrize("mark", [b"HEAP", b"SNOD", b"TREE"])
def test_hdf5_files_with_a_damaged_index(mark: bytes, tmp_path: Path) -> None:
    require("h5py")
    (tmp_path / "a.h5").write_bytes(hdf5_bytes(_chunked).replace(mark, b"XXXX"))
    with pytest.raises(DataError, match=r"a\.h5 can't be read"):
        read_datasets(tmp_path / "a.h5", "x")


def test_a_parquet_file_that_memory_can_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("pyarrow")
    (tmp_path / "a.parquet").write_bytes(parquet_bytes({"a": np.zeros(10_000), "label": np.zeros(10_000)}))
    assert (tmp_path / "a.parquet").stat().st_size < 10_000
    monkeypatch.setattr(source, "free_memory", lambda: 100_000)
    with pytest.raises(DataError, match=r"a\.parquet takes 160000 bytes of memory"):
        read_inputs("a.parquet", schema.Digits(), tmp_path)


def test_a_feather_file_that_memory_can_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, feather = require("pyarrow"), require("pyarrow.feather")
    path, table = tmp_path / "d.feather", arrow.table({"a": np.zeros(100_000), "label": np.zeros(100_000)})
    for packing, declared in (("zstd", 1_600_000), ("lz4", 1_600_000), ("uncompressed", 0)):
        feather.write_feather(table, path, compression=packing, chunksize=30_000)
        assert unpacked_bytes(memoryview(path.read_bytes())) == declared
    feather.write_feather(table, path, compression="zstd")
    monkeypatch.setattr(source, "free_memory", lambda: 10**6)
    with pytest.raises(DataError, match=r"d\.feather takes 1600000 bytes of memory, but only 1000000 are available"):
        read_source(schema.Feather(path="d.feather", targets=["label"]), tmp_path)


@pytest.mark.parametrize("content", [b"", b"ARROW1", bytes(40), b"\xff" * 60, b"\x10\0\0\0" * 9 + b"\x20\0\0\0ARROW1"])
def test_records_of_a_feather_file_that_are_damaged(content: bytes) -> None:
    with pytest.raises(ValueError, match="its records are damaged"):
        unpacked_bytes(memoryview(content))
