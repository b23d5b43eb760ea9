"""HDF5 as people have it: links, virtual data sets, filters, other types than numbers, files that others write to."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from hpcnn.data.readers import hdf5_checks, read_source
from hpcnn.errors import DataError
from hpcnn.job import data as schema
from tests.data.helpers import read_datasets, take
from tests.require import require

X = np.random.default_rng(0).normal(size=(40, 3))
UNKNOWN = 333
"""Of a filter that no installation has: numbers below 512 are for tests."""


@pytest.fixture
def h5py():
    return require("h5py")


@pytest.fixture
def write(h5py, tmp_path):
    """Return a function that makes a file: ``write("a.h5", x=array)``, or with a function that fills it."""

    def make(name, fill=None, **arrays):
        with h5py.File(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                file[key] = array
            if fill is not None:
                fill(file)
        return tmp_path / name

    return make


def read(path, key="x"):
    return take(read_datasets(path, key)[0])


# --------------------------------------------------------------------------------------------------------------- links


def test_links_of_each_kind_lead_to_data_sets(h5py, write, tmp_path):
    write("other.h5", deep=X)

    def fill(file):
        file["real/x"] = X
        file["soft"], file["group"] = h5py.SoftLink("/real/x"), h5py.SoftLink("/real")
        file["hard"], file["far"] = file["real/x"], h5py.ExternalLink("other.h5", "/deep")
        file["real/round"] = file["/"]  # in circles

    path = write("a.h5", fill)
    for key in ("real/x", "soft", "/soft", "hard", "far", "group/x", "real/round/soft"):
        np.testing.assert_array_equal(read(path, key), X)
    (rows,) = read_datasets(path, "far")
    gc.collect()  # nothing but the rows keeps the other file open
    np.testing.assert_array_equal(take(rows), X)
    with pytest.raises(
        DataError, match=r"unknown data set in .*a\.h5 'haard'\. Did you mean 'hard'\? Known: far, .*soft"
    ):
        read(path, "haard")


@pytest.mark.parametrize(("key", "text"), [
    ("soft", r"'soft' in .*a\.h5 is a link to '/nowhere', which is not in the file\."),
    ("soft/x", r"'soft' in .*a\.h5 is a link to '/nowhere'"),
    ("far", r"'far' in .*a\.h5 is a link to '/y' in the file 'gone\.h5', where it is not found\. Put that file beside"),
    ("empty", r"'empty' in .*a\.h5 is a link to '/y' in the file 'a\.h5', where it is not found"),
    ("circle", r"'circle' in .*a\.h5 is a link to '/circle'"),
])  # fmt: skip
def test_links_that_lead_nowhere(key, text, h5py, write):
    def fill(file):
        file["soft"], file["circle"] = h5py.SoftLink("/nowhere"), h5py.SoftLink("/circle")
        file["far"], file["empty"] = h5py.ExternalLink("gone.h5", "/y"), h5py.ExternalLink("a.h5", "/y")

    with pytest.raises(DataError, match=text):
        read(write("a.h5", fill), key)


# ------------------------------------------------------------------------------------------------------- virtual ones


def virtual(h5py, source, name="x"):
    """Return a function that adds a virtual data set, made of one of another file."""

    def fill(file):
        layout = h5py.VirtualLayout(X.shape, X.dtype)
        layout[:] = h5py.VirtualSource(source, name, X.shape)
        file.create_virtual_dataset("x", layout)
        file["y"] = np.arange(len(X))

    return fill


def test_a_process_that_holds_virtual_rows_to_its_end_ends_well(h5py, write):
    """The HDF5 library crashed as it ended, long after all was saved."""
    write("source.h5", x=X)
    path = write("a.h5", virtual(h5py, "source.h5"))
    code = f"""
import ctypes
from pathlib import Path
from hpcnn.data.readers.hdf5 import read_variables

for rows in [variable.rows for variable in read_variables(Path({str(path)!r}), "x", "y")]:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(rows))  # is never let go of
print(rows.shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(40,)\n", "")


def test_files_are_closed_with_the_last_of_their_rows(h5py, write):
    write("source.h5", x=X)
    path = write("a.h5", virtual(h5py, "source.h5"))
    x, y = read_datasets(path, "x", "y")
    (again,) = read_datasets(path, "x")  # as where validation data are of the same file
    del x
    np.testing.assert_array_equal(take(y), np.arange(len(X)))
    file = weakref.ref(y._files[0])
    del y
    assert file() is None
    np.testing.assert_array_equal(take(again), X)
    del again
    with h5py.File(path, "r+") as file:  # not while it is open to read
        file["z"] = 1


def test_sources_of_virtual_data_sets_must_be_there(h5py, write, tmp_path, monkeypatch):
    path = write("a.h5", virtual(h5py, "source.h5"))
    text = r"'x' in .*a\.h5 is virtual, and is made of the file 'source\.h5', which is not there: HDF5 would read zeros"
    with pytest.raises(DataError, match=text):
        read(path)
    write("source.h5", y=X)
    with pytest.raises(DataError, match=r"is virtual, and is made of 'x' in .*source\.h5, where no such data set is"):
        read(path)
    write("source.h5", lambda file: file.create_dataset("x", X.shape, "f8"))
    with pytest.raises(DataError, match=r"'x' in .*source\.h5, of which .* was declared.* nothing was ever written"):
        read(path)
    write("source.h5", x=X)
    np.testing.assert_array_equal(read(path), X)
    np.testing.assert_array_equal(read(write("b.h5", virtual(h5py, str(tmp_path / "source.h5")))), X)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "source.h5").rename(tmp_path / "elsewhere" / "source.h5")
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(read(path), X)

    def within(file):
        file["real"] = X
        virtual(h5py, ".", "real")(file)

    np.testing.assert_array_equal(read(write("c.h5", within)), X)


# ------------------------------------------------------------------------------------------------------------- filters


def filtered(h5py, skipped=False):
    """Return a function that adds a data set whose chunk went through a filter that nobody has."""

    def fill(file):
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((500, 1000))
        plan.set_filter(UNKNOWN, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((500, 1000))
        found = h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_DOUBLE, space, plan)
        if skipped:
            h5py.Dataset(found)[:] = 1.0  # the chunk is as it was: the filter was optional
        else:
            found.write_direct_chunk((0, 0), b"packed 100,000 times")

    return fill


def test_a_filter_that_is_not_there_is_named(h5py, write, monkeypatch):
    path = write("a.h5", filtered(h5py))
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(DataError, match=r"'x' in .*a\.h5 is compressed by the filter number 333, which this "
                                        r"installation of HDF5 lacks\. .* pip install hdf5plugin\. Or set "
                                        r"HDF5_PLUGIN_PATH"):  # fmt: skip
        read(path)
    assert read(write("b.h5", filtered(h5py, skipped=True))).sum() == 500_000


def test_hdf5plugin_is_imported_where_a_filter_is_missing(h5py, write, monkeypatch, tmp_path):
    (tmp_path / "hdf5plugin.py").write_text("import h5py\nh5py.h5z.filter_avail = lambda code: True\n")
    monkeypatch.setattr(h5py.h5z, "filter_avail", h5py.h5z.filter_avail)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hdf5plugin", raising=False)
    (rows,) = read_datasets(write("a.h5", filtered(h5py)), "x")  # packed further than deflate could
    assert rows.shape == (500, 1000)
    monkeypatch.delitem(sys.modules, "hdf5plugin")


# ------------------------------------------------------------------------------------------------- types, shapes, files


@pytest.mark.parametrize(("make", "text"), [
    (lambda h5py: np.zeros(4, [("a", "f4"), ("b", "i4")]), r"is a table of fields \(a, b\), not an array of numbers"),
    (lambda h5py: np.array([b"aa", b"b"]), r"holds text; allowed are"),
    (lambda h5py: ["a", "bc"], r"holds text; allowed are"),
    (lambda h5py: h5py.Empty("f4"), r"is empty: it has a type, and no shape"),
    (lambda h5py: np.zeros(3, "c8"), r"has dtype complex64; allowed are"),
    (lambda h5py: np.zeros(3, "V5"), r"has dtype \|V5; allowed are"),
])  # fmt: skip
def test_what_is_no_array_of_numbers(make, text, h5py, write):
    with pytest.raises(DataError, match=r"data set 'x' in .*a\.h5 " + text):
        read(write("a.h5", x=make(h5py)))


@pytest.mark.parametrize(("kind", "text"), [
    (lambda h5py: h5py.vlen_dtype(np.float32), "holds rows of unlike lengths"),
    (lambda h5py: h5py.ref_dtype, "holds references to other objects"),
    (lambda h5py: np.float32, r"was declared, with shape \(4,\), but nothing was ever written to it"),
])  # fmt: skip
def test_what_was_only_declared(kind, text, h5py, write):
    with pytest.raises(DataError, match=text):
        read(write("a.h5", lambda file: file.create_dataset("x", (4,), kind(h5py))))


def test_what_was_written_in_part_is_warned_of(write, tmp_path):
    """As by a program that made room for all of its results, and broke off."""

    def fill(file):
        file.create_dataset("x", X.shape, "f8", chunks=(8, 3), fillvalue=-1.0)[:20] = X[:20]
        file.create_dataset("y", data=np.arange(40), chunks=(9,))
        file["x"].attrs["scale_factor"] = 2.0

    path = write("a.h5", fill)
    text = f"data set 'x' in {path}: 2 of its 5 chunks were never written, and are read as -1.0"
    assert read_source(schema.Hdf5(path=str(path)), tmp_path).notes == (text,)
    both = read_source(schema.Hdf5(path=str(path), x="y", validation_path=str(path)), tmp_path)
    assert both.notes == ()


@pytest.mark.parametrize("dtype", [">f8", "<f2", ">i2", "u1", "?"])
@pytest.mark.parametrize("chunks", [None, (7, 2)])
def test_numbers_of_any_kind(dtype, chunks, h5py, write):
    values = (10 * X).astype(dtype)
    options = {"chunks": chunks, "maxshape": (None, 3)} if chunks else {}
    np.testing.assert_array_equal(
        read(write("a.h5", lambda file: file.create_dataset("x", data=values, **options))), values
    )


def test_enumerations_are_their_numbers(h5py, write):
    kind = h5py.enum_dtype({"cat": 0, "dog": 1}, basetype="i1")
    path = write("a.h5", lambda file: file.create_dataset("x", data=np.array([0, 1, 1]), dtype=kind))
    np.testing.assert_array_equal(read(path), [0, 1, 1])


def test_values_in_a_file_of_their_own(h5py, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fill(file):
        file.create_dataset("x", X.shape, X.dtype, external=[("raw.bin", 0, h5py.h5f.UNLIMITED)])[:] = X

    np.testing.assert_array_equal(read(write("a.h5", fill)), X)


def test_a_file_that_another_program_writes_to(h5py, write):
    """Locks are between processes; within one, the library knows that the file is open."""
    path = write("a.h5", x=X)
    code = f"import h5py, sys\nfile = h5py.File({str(path)!r}, 'r+')\nprint('open', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        try:
            with pytest.raises(DataError, match=r"a\.h5 is open for writing in another program\. Wait until that"):
                read(path)
        finally:
            other.stdin.close()
    np.testing.assert_array_equal(read(path), X)


def test_a_file_whose_writer_died(h5py, tmp_path):
    path, left = tmp_path / "a.h5", tmp_path / "left.h5"
    with h5py.File(path, "w", libver="latest") as file:
        file["x"] = X
        file.swmr_mode = True
        file.flush()
        left.write_bytes(path.read_bytes())
    with pytest.raises(
        DataError, match=r"left\.h5 was not closed by the program that wrote to it.*h5clear -s .*left\.h5"
    ):
        read(left)


def test_netcdf_of_the_classic_format(tmp_path):
    require("h5py")
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(DataError, match=r"a\.nc is a netCDF file of the classic format.*nccopy -k netCDF-4"):
        read(tmp_path / "a.nc")


def test_names_that_a_message_lists_are_limited(write, monkeypatch):
    monkeypatch.setattr(hdf5_checks, "NAMES_LIMIT", 5)
    path = write("a.h5", lambda file: [file.create_group(f"g{i}") for i in range(20)], **{f"d{i}": X for i in range(9)})
    with pytest.raises(DataError, match=r"unknown data set in .* 'x'\. .*Known: d0, d1"):
        read(path)
