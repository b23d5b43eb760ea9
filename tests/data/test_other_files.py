"""Other files than the job's, for evaluation and prediction."""

import gzip

import numpy as np
import pytest

from hpcnn.data import other_files
from hpcnn.data.load import Scaling, read_inputs, read_samples
from hpcnn.data.readers import READERS, reader_of
from hpcnn.errors import DataError
from hpcnn.job import data as schema
from tests.data.helpers import take
from tests.data.test_idx import IMAGES, LABELS, NAMES, idx_bytes, write, write_mnist
from tests.data.test_webdataset import npy_bytes, write_tar
from tests.require import require

X = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
Y = np.arange(9) % 2
DIGITS, IDX = schema.Digits(), schema.Idx(folder="-")
CSV = schema.Csv(path="no.csv", targets=["label"], validation_path="no.csv", validation_fraction=0.5)
SHARDS = schema.WebDataset(shards="-", x="npy", validation_shards="no.tar", validation_fraction=0.5)
SCALING = Scaling(np.array(1.0), np.array(2.0))


MADE_ELSEWHERE = {reader_of(IDX), reader_of(schema.Images(folder="-"))}
"""Readers whose files are made below, or in `test_images`."""


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    np.savez(tmp_path / "d.npz", x=X, y=Y, inputs=X + 1, labels=1 - Y)
    lines = [",".join(map(repr, [*map(float, x), int(y)])) for x, y in zip(X, Y, strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,c,label", *lines]))
    (tmp_path / "plain.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))
    return tmp_path


@pytest.fixture
def more(folder):
    with require("h5py").File(folder / "d.h5", "w") as file:
        file["x"], file["y"], file["inputs"], file["labels"] = X, Y, X + 1, 1 - Y
    group = require("zarr").open_group(folder / "d.zarr", mode="w")
    for name, values in (("x", X), ("y", Y), ("inputs", X + 1), ("labels", 1 - Y)):
        group.create_array(name, data=values)
    table = require("pyarrow").table({**{name: X[:, i] for i, name in enumerate("abc")}, "label": Y})
    require("pyarrow.parquet").write_table(table, folder / "d.parquet")
    write_tar(folder / "d.tar", {f"{i}.{ending}": content for i, (x, y) in enumerate(zip(X, Y, strict=True))
                                 for ending, content in (("npy", npy_bytes(x)), ("cls", b"%d" % y))})  # fmt: skip
    require("pyarrow.feather").write_feather(table, folder / "d.feather")
    return folder


INPUTS = {
    "npy": ("x.npy", DIGITS, X),
    "npz": ("d.npz", DIGITS, X),
    "npz, named": ("d.npz", schema.Npz(path="-", x="inputs"), X + 1),
    "csv": ("d.csv", CSV, X),
    "csv without names": ("plain.csv", schema.Csv(path="-", targets=[0], header=False), X),
    "csv, job without": ("plain.csv", DIGITS, X),
    "flat": ("y.npy", DIGITS, Y[:, None]),
}
MORE_INPUTS = {
    "h5": ("d.h5", DIGITS, X),
    "h5, named": ("d.h5", schema.Hdf5(path="-", x="inputs"), X + 1),
    "zarr": ("d.zarr", DIGITS, X),
    "zarr, named by a job of HDF5": ("d.zarr", schema.Hdf5(path="-", x="inputs"), X + 1),
    "parquet": ("d.parquet", schema.Parquet(path="-", targets=["label"]), X),
    "parquet, job without": ("d.parquet", DIGITS, np.column_stack([X, Y])),
    "tar": ("d.tar", SHARDS, X),
    "feather": ("d.feather", schema.Feather(path="-", targets=["label"]), X),
}
SAMPLES = {
    "npy": ("x.npy, y.npy", DIGITS, X, Y),
    "npz": ("d.npz", DIGITS, X, Y),
    "npz, named": ("d.npz", schema.Npz(path="-", x="inputs", y="labels", validation_path="no"), X + 1, 1 - Y),
    "csv": ("d.csv", CSV, X, Y),
}
MORE_SAMPLES = {
    "h5": ("d.h5", DIGITS, X, Y),
    "h5, named": ("d.h5", schema.Hdf5(path="-", x="inputs", y="labels", validation_path="no"), X + 1, 1 - Y),
    "parquet": ("d.parquet", schema.Parquet(path="-", targets=["label"], validation_path="no"), X, Y),
    "zarr": ("d.zarr", DIGITS, X, Y),
    "zarr, named by a job of HDF5": ("d.zarr", schema.Hdf5(path="-", x="inputs", y="labels"), X + 1, 1 - Y),
    "tar": ("d.tar", SHARDS, X, Y),
    "feather": ("d.feather", schema.Feather(path="-", targets=["label"], validation_path="no"), X, Y),
}


ENDINGS = {
    "d.tsv": ("d.csv", CSV),
    "d.txt": ("d.csv", CSV),
    "d.DATA": ("d.csv", CSV),
    "d": ("d.csv", CSV),
    "d.nc": ("d.h5", schema.Hdf5(path="-")),
    "d.hdf": ("d.h5", schema.Hdf5(path="-")),
    "d.pq": ("d.parquet", schema.Parquet(path="-", targets=["label"])),
    "d.zip": ("d.npz", schema.Npz(path="-")),
}
"""Names that say nothing, and how the job reads its own data."""


@pytest.mark.parametrize("name", ENDINGS)
def test_other_endings_are_read_as_the_job_reads_its_own_data(name, more):
    original, data = ENDINGS[name]
    (more / original).rename(more / name)
    np.testing.assert_array_equal(take(read_inputs(name, data, more).x), X)
    samples = read_samples(name, data, more)
    np.testing.assert_array_equal(take(samples.x), X)
    np.testing.assert_array_equal(take(samples.y), Y)


def test_other_endings_of_one_array(folder):
    (folder / "x.npy").rename(folder / "x.array")
    np.testing.assert_array_equal(take(read_inputs("x.array", schema.Npy(x_path="-", y_path="-"), folder).x), X)
    write(folder / "images", idx_bytes(IMAGES))
    np.testing.assert_array_equal(take(read_inputs("images", schema.Idx(folder="-"), folder).x, np.uint8), IMAGES)


def test_packed_tables_and_folders_of_parts(folder):
    (folder / "d.csv.gz").write_bytes(gzip.compress((folder / "d.csv").read_bytes()))
    lines = (folder / "d.csv").read_text().splitlines()
    for part, rows in enumerate((lines[1:4], lines[4:])):
        (folder / "parts").mkdir(exist_ok=True)
        (folder / "parts" / f"{part}.csv").write_text("\n".join([lines[0], *rows]))
    for path in ("d.csv.gz", "parts", "parts/*.csv", f"file://{folder}/parts"):
        if "://" in path:
            require("pyarrow")
        np.testing.assert_array_equal(take(read_inputs(path, CSV, folder).x), X)
        samples = read_samples(path, CSV, folder)
        np.testing.assert_array_equal(take(samples.x), X)
        np.testing.assert_array_equal(take(samples.y), Y)


def check_inputs(case, folder):
    path, data, expected = case
    for scaling in (None, SCALING):
        rows = read_inputs(path, data, folder, scaling=scaling, features=3).x
        wanted = expected if scaling is None else (expected.astype(np.float64) - 1) * 2
        np.testing.assert_array_equal(take(rows, np.float32), wanted.astype(np.float32))


def check_samples(case, folder):
    path, data, x, y = case
    for scaling in (None, SCALING):
        samples = read_samples(path, data, folder, scaling=scaling)
        wanted = x if scaling is None else (x.astype(np.float64) - 1) * 2
        np.testing.assert_array_equal(take(samples.x, np.float32), wanted.astype(np.float32))
        np.testing.assert_array_equal(take(samples.y), y)


@pytest.mark.parametrize("case", INPUTS)
def test_inputs(case, folder):
    check_inputs(INPUTS[case], folder)


@pytest.mark.parametrize("case", MORE_INPUTS)
def test_inputs_of_optional_formats(case, more):
    check_inputs(MORE_INPUTS[case], more)


@pytest.mark.parametrize("case", SAMPLES)
def test_samples(case, folder):
    check_samples(SAMPLES[case], folder)


@pytest.mark.parametrize("case", MORE_SAMPLES)
def test_samples_of_optional_formats(case, more):
    check_samples(MORE_SAMPLES[case], more)


def test_every_reader_is_in_the_tables():
    inputs = {reader for case in (*INPUTS.values(), *MORE_INPUTS.values())
              for ending, reader in other_files.INPUTS.items() if case[0].endswith(ending)}  # fmt: skip
    assert inputs == {reader for reader in READERS if reader.endings} - MADE_ELSEWHERE
    samples = {reader for case in (*SAMPLES.values(), *MORE_SAMPLES.values())
               for ending, reader in other_files.INPUTS.items() if case[0].endswith(ending)}  # fmt: skip
    assert samples == inputs


@pytest.mark.parametrize(("name", "settings", "names"), [
    ("d.csv", CSV, ("a", "b", "c")),
    ("d.csv", DIGITS, ("a", "b", "c", "label")),
    ("d.csv", schema.Csv(path="-", targets=[-1]), ("a", "b", "c")),
    ("plain.csv", DIGITS, None),
    ("x.npy", DIGITS, None),
])  # fmt: skip
def test_names_of_features_come_with_the_inputs(name, settings, names, folder):
    assert read_inputs(name, settings, folder).feature_names == names


def test_a_folder_with_a_comma_in_its_name(tmp_path):
    (tmp_path / "a,b").mkdir()
    write_mnist(tmp_path / "a,b")
    np.testing.assert_array_equal(take(read_samples("a,b", DIGITS, tmp_path).y), LABELS[:5])


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_images(ending, tmp_path):
    write_mnist(tmp_path, ending)
    rows = read_inputs(f"{NAMES[2]}{ending}", DIGITS, tmp_path).x
    np.testing.assert_array_equal(take(rows, np.uint8), IMAGES[:5])


def test_a_folder_of_idx_files(tmp_path):
    write_mnist(tmp_path, names=NAMES[:3])
    np.testing.assert_array_equal(take(read_samples(".", DIGITS, tmp_path).y), LABELS)
    write_mnist(tmp_path)
    for data in (DIGITS, schema.Idx(folder="elsewhere")):
        np.testing.assert_array_equal(take(read_samples(str(tmp_path), data, tmp_path).y), LABELS[:5])
    np.testing.assert_array_equal(
        take(read_samples(".", schema.Idx(folder="-", validation_images="", validation_labels=""), tmp_path).y), LABELS
    )
    write(tmp_path / "i", idx_bytes(IMAGES[:2]))
    write(tmp_path / "l", idx_bytes(LABELS[:2]))
    data = schema.Idx(folder="elsewhere", images="i", labels="l", validation_images="", validation_labels="")
    assert len(read_samples(".", data, tmp_path)) == 2


def test_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match=rf"missing in the folder {tmp_path}: {NAMES[0]}, {NAMES[1]};"):
        read_samples(str(tmp_path), DIGITS, tmp_path)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("d.md", r"for prediction\. Known endings"),
        ("d.cvs", r"for prediction\. Did you mean '\.csv'\? Known endings"),
        ("d.txt", r"'d.txt' does not end like a file for prediction.*Known endings: \.npy, \.npz, \.csv"),
        ("d.npx", r"Did you mean '\.npz'|Did you mean '\.npy'"),
        ("no.npy", "no data file 'no.npy': looked for"),
        ("bad.npy", r"inputs of bad\.npy: column 2 holds 1 value of 9 .* row 4"),
        ("none.npy", r"none\.npy: inputs of shape \(0, 3\) are empty"),
    ],
)
def test_bad_inputs(path, text, folder):
    bad = X.copy()
    bad[4, 2] = np.nan
    np.save(folder / "bad.npy", bad)
    np.save(folder / "none.npy", X[:0])
    with pytest.raises(DataError, match=text):
        read_inputs(path, DIGITS, folder)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("x.npy", "'x.npy' contains only inputs. For evaluation give two files, as 'x.npy,y.npy'"),
        ("d.txt", r"'d.txt' does not end like a file for evaluation.*Known endings: \.npz, \.csv"),
        ("d.csv", r"'d.csv' has named columns, but the job's data.source is 'digits', not 'csv'"),
        ("d.parquet", r"'d.parquet' has named columns, but the job's data.source is 'digits', not 'parquet'"),
        ("x.npy,short.npy", r"x.npy,short.npy: 9 inputs \(shape \(9, 3\)\), but 4 targets"),
        ("bad.npz", r"inputs of bad\.npz: column 0 holds 1 value of 9"),
    ],
)
def test_bad_samples(path, text, folder):
    bad = X.copy()
    bad[4, 0] = np.inf
    np.save(folder / "short.npy", Y[:4])
    np.savez(folder / "bad.npz", x=bad, y=Y)
    with pytest.raises(DataError, match=text):
        read_samples(path, DIGITS, folder)
