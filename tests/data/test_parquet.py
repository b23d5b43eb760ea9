import sys

import numpy as np
import pytest

from hpcnn.data.load import read_inputs
from hpcnn.data.readers import read_source
from hpcnn.data.readers.parquet import ParquetReader
from hpcnn.errors import DataError, MissingExtraError
from hpcnn.job import data as schema
from tests.data.helpers import take
from tests.require import require

COLUMNS = {
    "a": np.arange(5, dtype=np.float32),
    "label": np.arange(5) % 2,
    "b": np.arange(5, dtype=np.int16),
    "flag": np.arange(5) > 2,
}


def write(path, columns):
    require("pyarrow.parquet").write_table(require("pyarrow").table(columns), path)
    return path


def test_read(tmp_path):
    write(tmp_path / "d.parquet", COLUMNS)
    source = read_source(schema.Parquet(path="d.parquet", targets=["label"]), tmp_path)
    np.testing.assert_array_equal(take(source.x), np.stack([COLUMNS[name] for name in ("a", "b", "flag")], axis=1))
    assert source.x.dtype == np.float32
    np.testing.assert_array_equal(take(source.y), COLUMNS["label"])
    assert source.y.dtype == np.int64
    assert source.feature_names == ("a", "b", "flag")
    assert source.validation is None


def test_several_targets_in_the_order_given(tmp_path):
    write(tmp_path / "d.parquet", COLUMNS)
    source = read_source(schema.Parquet(path="d.parquet", targets=["b", "a"]), tmp_path)
    np.testing.assert_array_equal(take(source.y), np.stack([COLUMNS["b"], COLUMNS["a"]], axis=1))


def test_validation(tmp_path):
    write(tmp_path / "d.parquet", COLUMNS)
    write(tmp_path / "v.parquet", {name: column[:2] for name, column in COLUMNS.items()})
    data = schema.Parquet(path="d.parquet", targets=["label"], validation_path="v.parquet")
    assert read_source(data, tmp_path).validation[0].shape == (2, 3)
    write(tmp_path / "v.parquet", {"a": [1.0], "label": [0]})
    with pytest.raises(
        DataError, match=r"columns of .*v\.parquet \(a, label\) are not those of .*d\.parquet \(a, b, flag, label\)"
    ):
        read_source(data, tmp_path)


BAD = {
    "unknown": ({"a": [1.0], "labels": [1]}, r"unknown column in .*'label'. Did you mean 'labels'"),
    "lists": ({"a": [[1.0]], "label": [1]}, r"d\.parquet: column 'a' has type list<element: double>; allowed are bool"),
    "structs": ({"a": [{"b": 1}], "label": [1]}, r"column 'a' has type struct<b: int64>; .*leave it out by data\.excl"),
    "times": ({"a": np.array([1], "m8[s]"), "label": [1]}, r"d\.parquet: column 'a' has type duration\[s\]"),
    "large integers": (
        {"a": [1, 2**53 + 1], "label": [1, 0]},
        r"column 'a' holds integers beyond 2\*\*53, as 9007",
    ),
    "all": ({"label": [1]}, "all columns are targets, or are left out: no input"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad(case, tmp_path):
    columns, text = BAD[case]
    write(tmp_path / "d.parquet", columns)
    with pytest.raises(DataError, match=text):
        read_source(schema.Parquet(path="d.parquet", targets=["label"]), tmp_path)


def test_two_columns_of_one_name(tmp_path):
    table = require("pyarrow").table([[1.0], [2.0], [3]], names=["a", "a", "label"])
    require("pyarrow.parquet").write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="several columns of one name: a"):
        read_source(schema.Parquet(path="d.parquet", targets=["label"]), tmp_path)


def test_damaged(tmp_path):
    content = write(tmp_path / "d.parquet", COLUMNS).read_bytes()
    no_metadata = content[:-40] + b"\xff" * 32 + content[-8:]
    for damaged in (b"", b"no file at all", content[: len(content) // 2], no_metadata):
        (tmp_path / "d.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"d\.parquet can't be read: no valid Parquet file") as caught:
            read_source(schema.Parquet(path="d.parquet", targets=["label"]), tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("targets", "features"), [(["label"], 3), (["absent"], 4)])
def test_inputs_alone(targets, features, tmp_path):
    path = write(tmp_path / "d.parquet", COLUMNS)
    inputs = ParquetReader().read_inputs(path, schema.Parquet(path="-", targets=targets), None, None)
    assert inputs.x.shape == (5, features)
    assert len(inputs.feature_names) == features


def test_missing_package(tmp_path, monkeypatch):
    (tmp_path / "d.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(MissingExtraError, match=r"reading Parquet files needs .* 'pyarrow'.*hpcnn\[parquet\]"):
        read_source(schema.Parquet(path="d.parquet", targets=["a"]), tmp_path)


def test_row_groups_go_to_rows_one_by_one(tmp_path):
    """Floats of the most frequent type as a block; others, and those with missing values, apart."""
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    rng = np.random.default_rng(0)
    columns = {name: rng.random(50).astype(np.float32) for name in ("z", "b", "a", "t")}
    parquet.write_table(arrow.table(columns), tmp_path / "d.parquet", row_group_size=7)
    source = read_source(schema.Parquet(path="d.parquet", targets=["t"]), tmp_path)
    np.testing.assert_array_equal(take(source.x), np.stack([columns[name] for name in "abz"], 1))
    assert source.x.dtype == source.y.dtype == np.float32
    source = read_source(schema.Parquet(path="d.parquet", targets=["t"], inputs=["z", "a"]), tmp_path)
    np.testing.assert_array_equal(take(source.x), np.stack([columns["z"], columns["a"]], 1))
    inputs = read_inputs("d.parquet", schema.Parquet(path="-", targets=["y"]), tmp_path)  # floats alone
    np.testing.assert_array_equal(take(inputs.x), np.stack([columns[name] for name in "zbat"], 1))
    mixed = columns | {"b": [None if 20 < place < 23 else float(place) for place in range(50)], "i": np.arange(50)}
    table = arrow.table(mixed).set_column(1, "b", arrow.array(mixed["b"], arrow.float32()))
    parquet.write_table(table, tmp_path / "m.parquet", row_group_size=7)
    source = read_source(schema.Parquet(path="m.parquet", targets=["t"]), tmp_path)
    gaps = np.array([np.nan if one is None else one for one in mixed["b"]])
    np.testing.assert_array_equal(take(source.x), np.stack([columns["a"], gaps, np.arange(50), columns["z"]], 1))
    assert source.x.dtype == np.float64


def test_many_columns_are_read_some_at_a_time(tmp_path, monkeypatch):
    """Of one name "a" pyarrow gives "a.b" too, which is a column of its own."""
    arrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    monkeypatch.setattr("hpcnn.data.tables.float_block._TOGETHER", 1)
    values = np.random.default_rng(0).random((50, 70))
    names = [f"a{'.b' * (place % 2)}{place // 2:02}" for place in range(68)] + ["a", "a.b"]
    table = {name: values[:, place] for place, name in enumerate(names)} | {"y": np.arange(50)}
    parquet.write_table(arrow.table(table), tmp_path / "d.parquet", row_group_size=20)
    source = read_source(schema.Parquet(path="d.parquet", targets=["y"]), tmp_path)
    np.testing.assert_array_equal(take(source.x), values[:, sorted(range(70), key=names.__getitem__)])
