"""Columns are known by their names: which of a table a model takes, and in which order."""

import numpy as np
import pytest

from hpcnn.data.columns import Columns, named_columns, nameless_note
from hpcnn.data.load import load, read_inputs, read_samples
from hpcnn.data.readers import read_source
from hpcnn.errors import DataError
from hpcnn.job import data as schema
from tests.data.helpers import take
from tests.require import require

MODEL = Columns(("a", "b", "c"), ("y",))
GIVEN = {
    "as trained": ("abc", [0, 1, 2]),
    "another order": ("cab", [1, 2, 0]),
    "with the target": ("cyab", [2, 3, 0]),
    "an index of pandas": (["__index_level_0__", "b", "a", "c"], [2, 1, 3]),
    "a nameless index": (["", "c", "b", "a"], [3, 2, 1]),
    "a nameless index that pandas read": (["Unnamed: 0", "c", "b", "a"], [3, 2, 1]),
    "no more than positions": ("012", [0, 1, 2]),
    "blanks around names": ([" b", "a", "y ", " c "], [1, 0, 3]),
}


@pytest.mark.parametrize("case", GIVEN)
def test_where_the_inputs_are(case):
    given, places = GIVEN[case]
    assert MODEL.places([*given], "d.csv") == places


REFUSED = {
    "missing": ("ab", r"d\.csv lacks 'c'\. Give the columns by .*: 'a', 'b', 'c'\. The targets \('y'\) may stay"),
    "unknown": (["a", "b", "c", "id"], r"d\.csv has 'id', which the model was not trained on\. Give"),
    "misspelt": (["a", "bb", "c"], r"lacks 'b' and has 'bb', which .* not trained on\. Did you mean 'bb'\?"),
    "twice": ("abcc", "d.csv can't be matched by name .*: several columns are named 'c'. Give them in"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    given, text = REFUSED[case]
    with pytest.raises(DataError, match=text):
        MODEL.places([*given], "d.csv")


def test_names_that_only_count():
    counted = Columns(("0", "1", "2"), ("3",))
    assert counted.places(["2", "0", "1"], "x") == [1, 2, 0]
    assert counted.places(["p", "q", "3", "r"], "x") == [0, 1, 3]


def test_names_that_repeat_in_the_training_data():
    columns = named_columns(("a", "a"), ("y",))
    assert columns.places(["a", "y", "a"], "x") == [0, 2]
    for given in (["b", "a", "a"], ["b", "a"]):
        with pytest.raises(DataError, match="several columns are named 'a'"):
            named_columns(("a", "a", "b")).places(given, "x")
    for target in ("price", " price"):
        assert named_columns(("price ", "a"), (target,)).targets == ()


def test_blanks_around_names_do_not_count(tmp_path):
    spaced = {" b": COLUMNS["b"], "y ": Y, "c": COLUMNS["c"], " a": COLUMNS["a"]}
    assert named_columns([*spaced], ["t "]) == Columns(("b", "y", "c", "a"), ("t",))
    model = Columns((" a", "b ", "c"), ("y ",))  # as it was kept
    for kind, table in (("csv", COLUMNS), ("parquet", spaced), ("parquet", COLUMNS), ("csv", spaced)):
        WRITE[kind](tmp_path / f"d.{kind}", table)
        data = SECTIONS["by name"](kind)
        np.testing.assert_array_equal(take(read_inputs(f"d.{kind}", data, tmp_path, columns=model).x), X)
        samples = read_samples(f"d.{kind}", data, tmp_path, columns=model)
        np.testing.assert_array_equal(take(samples.x), X)
        np.testing.assert_array_equal(take(samples.y), Y)
    write_parquet(tmp_path / "d.parquet", spaced)
    source = read_source(schema.Parquet(path="d.parquet", targets=["y "]), tmp_path)
    assert source.columns == Columns(("a", "b", "c"), ("y",))


X, Y = np.array([[1, 2, 3], [4, 5, 6.5]]), np.array([10, 20])
COLUMNS = {"b": X[:, 1], "y": Y, "c": X[:, 2], "a": X[:, 0]}


def write_csv(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(repr, map(float, row))) for row in rows)]) + "\n")


def write_parquet(path, columns):
    require("pyarrow.parquet").write_table(require("pyarrow").table(columns), path)


WRITE = {"csv": write_csv, "parquet": write_parquet}
SECTIONS = {
    "by name": lambda kind: {"csv": schema.Csv, "parquet": schema.Parquet}[kind](path="-", targets=["y"]),
    "by position": lambda kind: schema.Csv(path="-", targets=[-1]),
    "of other data": lambda kind: schema.Digits(),
}


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("kind", WRITE)
def test_files_are_matched_by_name(kind, section, tmp_path):
    data, name = SECTIONS[section](kind), f"d.{kind}"
    WRITE[kind](tmp_path / name, COLUMNS)
    np.testing.assert_array_equal(take(read_inputs(name, data, tmp_path, columns=MODEL, features=3).x), X)
    samples = read_samples(name, data, tmp_path, columns=MODEL)
    np.testing.assert_array_equal(take(samples.x), X)
    np.testing.assert_array_equal(take(samples.y), Y)
    WRITE[kind](tmp_path / name, {name: COLUMNS[name] for name in "bca"})
    np.testing.assert_array_equal(take(read_inputs(name, data, tmp_path, columns=MODEL, features=3).x), X)
    WRITE[kind](tmp_path / name, {**COLUMNS, "id": Y})
    for read in (read_inputs, read_samples):
        with pytest.raises(DataError, match=rf"{name} has 'id', which the model was not trained on"):
            read(name, data, tmp_path, columns=MODEL)


def test_names_in_a_file_mean_nothing_to_a_model_without(tmp_path):
    write_csv(tmp_path / "d.csv", COLUMNS)
    data = schema.Csv(path="-", targets=["y"])
    for rows in (read_inputs("d.csv", data, tmp_path, features=3).x, read_samples("d.csv", data, tmp_path).x):
        np.testing.assert_array_equal(take(rows), X[:, [1, 2, 0]])


FIRST_LINES = {"numbers": "1,2,3", "not a number": "nan,2,3"}
FIRST_LINES |= {f"missing: {mark}": f"1,{mark},3" for mark in ("", " NA", "n/a", "NULL", "None", "?", "-", ".")}


@pytest.mark.parametrize("line", FIRST_LINES)
@pytest.mark.parametrize("columns", [MODEL, None])
def test_a_first_line_of_numbers_is_never_taken_for_names(line, columns, tmp_path):
    (tmp_path / "d.csv").write_text(f"{FIRST_LINES[line]}\n4,5,6\n")
    set_header = r"d\.csv: the first line, taken for .*, holds only numbers\. Set data\.header"
    with pytest.raises(DataError, match=set_header):
        read_inputs("d.csv", schema.Csv(path="-", targets=["y"]), tmp_path, columns=columns, features=3)
    with pytest.raises(DataError, match="holds only numbers"):
        read_samples("d.csv", schema.Csv(path="-", targets=["y"]), tmp_path, columns=columns)
    by_name = r"holds only numbers\. If these are names, give data\.targets by name\. If not: Set data\.header = false"
    with pytest.raises(DataError, match=by_name):
        load(schema.Csv(path="d.csv", targets=[0]), seed=0, dtype=np.float64, base=tmp_path)


def test_a_first_line_that_counts_the_columns_is_their_names(tmp_path):
    write_csv(tmp_path / "d.csv", dict(zip("0123", [*X.T, Y], strict=True)))  # as pandas writes an array
    source = read_source(schema.Csv(path="d.csv", targets=[-1]), tmp_path)
    np.testing.assert_array_equal(take(source.x), X)
    assert source.columns == Columns(("0", "1", "2"), ("3",))
    for data in (schema.Csv(path="-", targets=[-1]), schema.Csv(path="-", targets=["3"]), schema.Digits()):
        np.testing.assert_array_equal(take(read_inputs("d.csv", data, tmp_path, columns=source.columns).x), X)
    write_csv(tmp_path / "x.csv", dict(zip("012", X.T, strict=True)))
    for columns in (MODEL, source.columns, None):
        np.testing.assert_array_equal(take(read_inputs("x.csv", schema.Digits(), tmp_path, columns=columns).x), X)
    (tmp_path / "two.csv").write_text("0,1\n2,3\n")
    np.testing.assert_array_equal(take(read_inputs("two.csv", schema.Digits(), tmp_path).x), [[0, 1], [2, 3]])


@pytest.mark.parametrize("mark", ["", "NA"])
def test_a_first_row_with_a_gap_is_no_header_where_the_job_does_not_say(mark, tmp_path):
    (tmp_path / "d.csv").write_text(f"1,{mark},3\n4,5,6\n")
    with pytest.raises(DataError, match=r"column '1' \(number 1\) holds 1 value of 2 that is missing, the first in r"):
        read_inputs("d.csv", schema.Digits(), tmp_path)


def test_names_that_are_numbers(tmp_path):
    (tmp_path / "d.csv").write_text("2,1,3\n4,5,6\n")
    columns = Columns(("1", "2", "3"), ("4",))
    inputs = read_inputs("d.csv", schema.Csv(path="-", targets=["4"]), tmp_path, columns=columns)
    np.testing.assert_array_equal(take(inputs.x), [[5, 4, 6]])
    assert inputs.feature_names == columns.inputs
    with pytest.raises(DataError, match=r"the first line may be a row of numbers or the names .* as a \.npy file"):
        read_inputs("d.csv", schema.Digits(), tmp_path, columns=columns)
    source = load(schema.Csv(path="d.csv", targets=["1"]), seed=0, dtype=np.float64, base=tmp_path)
    assert source.train.feature_names == ("2", "3")


# --------------------------------------------------------------------------------------------------- index columns


def pandas_table(index):
    """Return a table as pandas writes it with an index of that name."""
    pyarrow = require("pyarrow")
    table = pyarrow.table({"a": [1.0, 2.0], "y": [0, 1], index: [7, 8]})
    return table.replace_schema_metadata({"pandas": f'{{"index_columns": ["{index}"]}}'})


@pytest.mark.parametrize("index", ["__index_level_0__", "station"])
def test_the_index_of_pandas_is_left_out(index, tmp_path):
    require("pyarrow.parquet").write_table(pandas_table(index), tmp_path / "d.parquet")
    data = schema.Parquet(path="d.parquet", targets=["y"], validation_path="d.parquet")
    splits = load(data, seed=0, dtype=np.float64, base=tmp_path)
    assert splits.train.feature_names == ("a",)
    assert splits.notes == (f"{tmp_path / 'd.parquet'}: left out the index of pandas, {index}.",)
    np.testing.assert_array_equal(take(splits.train.x), [[1], [2]])
    for columns in (None, Columns(("a",), ("y",))):
        np.testing.assert_array_equal(take(read_inputs("d.parquet", data, tmp_path, columns=columns).x), [[1], [2]])
        np.testing.assert_array_equal(take(read_samples("d.parquet", data, tmp_path, columns=columns).x), [[1], [2]])
    wanted = schema.Parquet(path="d.parquet", targets=[index])
    assert read_source(wanted, tmp_path).columns == Columns(("a", "y"), (index,))


def test_what_pandas_says_of_an_index_may_be_anything(tmp_path):
    for told in (b"", b"[]", b"{}", b'{"index_columns": 3}', b'{"index_columns": [{"kind": "range"}, 2]}'):
        table = require("pyarrow").table({"a": [1.0], "y": [0]}).replace_schema_metadata({"pandas": told})
        require("pyarrow.parquet").write_table(table, tmp_path / "d.parquet")
        splits = load(schema.Parquet(path="d.parquet", targets=["y"]), seed=0, dtype=np.float64, base=tmp_path)
        assert (splits.train.feature_names, splits.notes) == (("a",), ())


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_a_column_without_a_name_is_warned_of(name, tmp_path):
    (tmp_path / "d.csv").write_text(f"{name},a,y\n0,2,3\n1,4,5\n")
    splits = load(schema.Csv(path="d.csv", targets=["y"]), seed=0, dtype=np.float64, base=tmp_path)
    (note,) = splits.notes
    assert note.startswith(
        f"column 0 of the training data has no name ({name!r}), like an index that pandas wrote, but"
    )
    assert "to_csv(index=False)" in note
    assert nameless_note(MODEL, "x") == nameless_note(None, "x") == ()
