import bz2
import gzip
import lzma
import re

import msgspec
import numpy as np
import pytest

from hpcnn.data.load import load, read_samples
from hpcnn.data.readers import read_source
from hpcnn.data.readers.csv import CsvReader
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from tests.data.helpers import take

READER = CsvReader()
TEXT = "a,b,price,c\n1,2,10,3\n4,5,20,6\n"


def read(folder, text, name="d.csv", **settings):
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    settings = {"path": name, "targets": ["price"], **settings}
    return read_source(schema.Csv(**settings), folder)


X, Y = [[1, 2, 3], [4, 5, 6]], [10, 20]
FORMS = {
    "plain": (TEXT, {}),
    "position": (TEXT, {"targets": [2]}),
    "negative position": (TEXT, {"targets": [-2]}),
    "windows": (TEXT.replace("\n", "\r\n"), {}),
    "mark of spreadsheets": ("\ufeff" + TEXT, {}),
    "no newline at the end": (TEXT[:-1], {}),
    "blank lines": ("\n" + TEXT.replace("\n", "\n\n"), {}),
    "spaces": (TEXT.replace(",", " , "), {}),
    "semicolons": (TEXT.replace(",", ";"), {}),
    "semicolons, as told": (TEXT.replace(",", ";"), {"delimiter": ";"}),
    "tabs": (TEXT.replace(",", "\t"), {}),
    "bars": (TEXT.replace(",", "|"), {}),
    "blanks": (TEXT.replace(",", "  ").replace("\n", " \n "), {}),
    "blanks and tabs, as told": (TEXT.replace(",", " \t "), {"delimiter": "whitespace"}),
    "single blanks, as told": (TEXT.replace(",", " "), {"delimiter": " "}),
    "old macs": (TEXT.replace("\n", "\r"), {}),
    "utf-16": (TEXT.encode("utf-16"), {}),
    "utf-16, big": (b"\xfe\xff" + TEXT.encode("utf-16-be"), {}),
    "utf-16 without a mark, as told": (TEXT.encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "utf-32": (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), {}),
    "gzip": (gzip.compress(TEXT.encode()), {}),
    "bzip2": (bz2.compress(TEXT.encode()), {}),
    "xz": (lzma.compress(TEXT.encode()), {}),
    "gzip, two in a row": (gzip.compress(TEXT[:9].encode()) + gzip.compress(TEXT[9:].encode()), {}),
    "comments": ("# by A, B\n" + TEXT + "  # the end\n", {"comment": "#"}),
    "commented rows": (TEXT.replace("4,5", "//7,8,9,9\n4,5"), {"comment": "//"}),
    "hash within": ("a,b,price,c\n1,2,10,3\n4,5,20,6\n", {"comment": "//"}),
    "decimal commas": ("a;b;price;c\n1,0;2;10,00;3,\n4;5;20;6\n".replace("3,", "3,0"), {}),
    "decimal commas, as told": ("a;b;price;c\n1,000;2;10;3\n4;5;20;6\n", {"decimal": ","}),
    "decimal commas in quotes": ('a,b,price,c\n"1,0",2,"10,00",3\n4,5,20,6\n', {}),
    "thousands with points are decimals": ("a;b;price;c\n1.000;2;10;3\n4;5;20;6\n", {"decimal": "."}),
    "quotes": ('"a","b","price","c"\n"1",2,10,"3"\n4,5,20,6\n', {}),
    "newline in a name": ('a,"b\nb",price,c\n1,2,10,3\n4,5,20,6\n', {}),
    "exponents": ("a,b,price,c\n1e0,+2,1E1,3.\n4,5,.2e2,6\n", {}),
    "hash in a name": (TEXT.replace("a,b", "#a,b"), {}),
    "no header": (TEXT.split("\n", 1)[1], {"header": False, "targets": [2]}),
    "no header, negative": (TEXT.split("\n", 1)[1], {"header": False, "targets": [-2]}),
    "numbers as names": ("1,2,price,4\n1,2,10,3\n4,5,20,6\n", {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    text, settings = FORMS[form]
    source = read(tmp_path, text, **settings)
    np.testing.assert_array_equal(take(source.x), X)
    np.testing.assert_array_equal(take(source.y), Y)
    assert source.validation is None


def test_names(tmp_path):
    assert read(tmp_path, TEXT).feature_names == ("a", "b", "c")
    assert read(tmp_path, "1,2\n", header=False, targets=[0]).feature_names is None


def test_several_targets_in_the_order_given(tmp_path):
    source = read(tmp_path, TEXT, targets=["c", 0])
    np.testing.assert_array_equal(take(source.y), [[3, 1], [6, 4]])
    np.testing.assert_array_equal(take(source.x), [[2, 10], [5, 20]])


def test_numbers_are_read_exactly(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 3))
    text = "a,b,price\n" + "\n".join(",".join(map(repr, row)) for row in values.tolist())
    np.testing.assert_array_equal(take(read(tmp_path, text).x), values[:, :2])


def test_validation_file(tmp_path):
    (tmp_path / "v.csv").write_text("a,b,price,c\n7,8,30,9\n")
    held_x, held_y = read(tmp_path, TEXT, validation_path="v.csv").validation
    np.testing.assert_array_equal(take(held_x), [[7, 8, 9]])
    np.testing.assert_array_equal(take(held_y), [30])


BAD = {
    "empty": ("", {}, r"d\.csv holds no row of data\."),
    "only blanks": ("\n\n", {}, "holds no row of data"),
    "only a header": ("a,price\n", {}, "holds no row of data below its header"),
    "short line": (TEXT + "7,8\n", {}, r"line 4: 2 cells, but the header has 4"),
    "long line": (TEXT + "7,8,9,10,11\n", {}, r"line 4: 5 cells, but the header has 4"),
    "short header": ("a,price\n1,2,3\n4,5,6\n", {}, r"line 2: 3 cells, but the header has 2"),
    "ragged without header": (
        "1,2\n1\n",
        {"header": False, "targets": [0]},
        "line 2: 1 cells, but the first line has 2",
    ),
    "commas": (
        TEXT,
        {"delimiter": ";", "targets": [0]},
        r"separated by ',', but data.delimiter is ';'\. Set data.delimiter = ',', or leave it out: it is found\.$",
    ),
    "semicolons": (TEXT.replace(",", ";"), {"delimiter": ","}, r"separated by ';', but .* is ','\. Set data.delimiter"),
    "blanks": (TEXT.replace(",", "  "), {"delimiter": ","}, r"separated by 'whitespace', but .* is ','"),
    "bars, no header": (
        "1|2\n3|4\n",
        {"delimiter": ",", "header": False, "targets": [0]},
        r"separated by '\|', but .* is ','",
    ),
    "decimal commas and points": (
        "a;price\n1,5;2.5\n",
        {},
        r"numbers with a decimal comma, as 1,5, and with a decimal point, as 2\.5\. Write all of them alike, or say",
    ),
    "three places after a comma": (
        "a;price\n1,500;2\n",
        {},
        r"1,500 may have a decimal comma, or a comma between thousands\. Say which by data\.decimal = ",
    ),
    "thousands": ('a,price\n"1,234.5",2\n12,3\n', {}, r"column 'a' holds '1,234\.5': numbers need one decimal sepa"),
    "thousands in quotes": ('a,price\n"1,234",2\n', {"decimal": "."}, "column 'a' holds '1,234': numbers need one"),
    "open quote": ('a,price\n1,2\n"3,4\n5,6\n', {}, "line 3: a quote opens and does not close"),
    "open quote in the last cell": ('a,price\n1,2\n3,"4\n5,6\n', {}, "line 3: a quote opens and does not close"),
    "comment at the beginning": (
        "# measured\n" + TEXT,
        {},
        r'line 1 begins with "#"\. If that is a comment, set data\.comment = "#"\. If it is none, set it to what',
    ),
    "commas in a comment": ("# measured, in Rome\n" + TEXT, {}, r'line 1 begins with "#"'),
    "as many commas in a comment": ("# by A, B, C, D\n" + TEXT, {}, r'line 1 begins with "#"'),
    "comment within": (TEXT + "# 7,8,9,9\n", {}, r'line 4 begins with "#"'),
    "comment, no header": ("# x\n1,2\n", {"header": False, "targets": [0]}, r'line 1 begins with "#"'),
    "utf-16 without a mark": (
        TEXT.encode("utf-16-le"),
        {"targets": [0]},
        r'null characters, as no text does\. If it is UTF-16 without a mark .*, set data\.encoding = "utf-16-le" or',
    ),
    "binary": (b"\xff\xfe\0\0" * 9, {}, "holds no row of data below its header"),
    "odd utf-16": (b"\xff\xfea", {}, r"no utf-16-le text: line 1 holds the byte 0x61\. Set data\.encoding to that of"),
    "other encoding": (b"a,price\n\xff,1\n", {"encoding": "ascii"}, "no ascii text: line 2 holds the byte 0xff. Set"),
    "latin-1": (
        TEXT.encode() + b"\xe9,1,1,1\n",
        {},
        r"no UTF-8 text: line 4 holds the byte 0xe9\. .* Latin-1, or Windows-1252: set data\.encoding = \"latin-1\" or",
    ),
    "latin-1 in a name": ("größe,price\n1,2\n".encode("latin-1"), {}, "line 1 holds the byte 0xf6.* Windows-1252"),
    "spreadsheet": (b"PK\x03\x04" + bytes(range(128, 255)), {}, r"\.xlsx files do\. Save the sheet as CSV"),
    "damaged gzip": (gzip.compress(TEXT.encode())[:-9], {}, "can't be read: Compressed file ended before"),
    "damaged bzip2": (bz2.compress(TEXT.encode())[:-9], {}, "can't be read: Compressed file ended before"),
    "damaged xz": (lzma.compress(TEXT.encode())[:-9], {}, "can't be read: Compressed file ended before"),
    "huge cell": ("a,price\n" + "1" * 200_000 + "x,1\n", {}, r"line 2 is no row of cells \(field larger than field"),
    "no header there": ("1,2\n3,4\n", {"targets": [0]}, "holds only numbers. .* Set data.header = false"),
    "unknown name": (
        TEXT,
        {"targets": ["prise"]},
        r"unknown column in .*'prise'. Did you mean 'price'\? Known: a, b, c",
    ),
    "position": (TEXT, {"targets": [4]}, "no column 4 in .*d.csv. Allowed are -4 to 3"),
    "negative position": (TEXT, {"targets": [-5]}, "no column -5"),
    "twice": (TEXT, {"targets": ["price", 2]}, r"targets = \['price', 2\] names one column of .* twice"),
    "ambiguous": ("price,price,a\n1,2,3\n", {}, "several columns of one name: price"),
    "one name": ("a,b,a,price\n1,2,3,4\n", {}, "has several columns of one name: a. Rename them"),
    "all": ("price\n1\n", {}, "all columns are targets, or are left out: no input"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad(case, tmp_path):
    text, settings, message = BAD[case]
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text, **settings)
    assert "d.csv" in str(caught.value)


def test_names_need_a_header(tmp_path):
    with pytest.raises(JobError, match=r"names column 'price', but with data.header = false columns have no names"):
        read(tmp_path, "1,2\n", header=False)


def test_validation_columns_may_be_in_another_order(tmp_path):
    (tmp_path / "v.csv").write_text("c,a,price,b\n9,7,30,8\n")
    np.testing.assert_array_equal(take(read(tmp_path, TEXT, validation_path="v.csv").validation[0]), [[7, 8, 9]])


def test_validation_columns_must_be_the_same(tmp_path):
    (tmp_path / "v.csv").write_text("a,price\n1,2\n")
    with pytest.raises(DataError, match=r"the columns of .*v\.csv .* are not those of .*d\.csv \(a, b, c, price\)"):
        read(tmp_path, TEXT, validation_path="v.csv")


SECTION = schema.Csv(path="", targets=["price"])
POSITION = schema.Csv(path="", targets=[-1], header=False)
INPUTS = {
    "targets are dropped": (TEXT, SECTION, None, X),
    "targets are absent": ("a,b,c\n1,2,3\n4,5,6\n", SECTION, None, X),
    "position, present": ("1,2,3,9\n4,5,6,9\n", POSITION, 3, X),
    "position, absent": ("1,2,3\n4,5,6\n", POSITION, 3, X),
    "position, unknown": ("1,2,3,9\n4,5,6,9\n", POSITION, None, X),
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs_alone(case, tmp_path):
    text, section, features, expected = INPUTS[case]
    (tmp_path / "p.csv").write_text(text)
    np.testing.assert_array_equal(take(READER.read_inputs(tmp_path / "p.csv", section, None, features).x), expected)


@pytest.mark.parametrize("text", ["a,b,c\n1,2,3\n4,5,6\n", "1,2,3\n4,5,6\n"])
def test_a_file_that_the_job_does_not_describe(text, tmp_path):
    path = tmp_path / "p.csv"
    path.write_text(text)
    np.testing.assert_array_equal(take(READER.read_inputs(path, READER.settings_for(str(path), None), None, None).x), X)


def test_a_damaged_file_that_the_job_does_not_describe(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xff")
    with pytest.raises(DataError, match="no UTF-8 text"):
        READER.read_inputs(path, READER.settings_for(str(path), None), None, None)


def test_a_separator_at_the_end_of_each_line_makes_no_column(tmp_path):
    source = read(tmp_path, TEXT.replace("\n", ",\n"))
    assert source.columns.inputs == ("a", "b", "c")
    assert source.notes == (f"{tmp_path / 'd.csv'}: left out a column without name and values: its lines end in a "
                            "separator.",)  # fmt: skip
    assert read(tmp_path, TEXT.replace("a,b", "a,").replace("4,5", "4,")).columns.inputs == ("", "a", "c")


@pytest.mark.parametrize("rows", [2, 60_000])  # the second by Arrow, if it is there
@pytest.mark.parametrize("number", ["9007199254740993", "-1180591620717411303424"])
def test_integers_that_floats_can_not_tell_apart(rows, number, tmp_path):
    text = "id,b,price\n" + f"{number},2.5e300,10\n" + "1,2,20\n" * (rows - 1)
    with pytest.raises(DataError, match=rf"column 'id' holds integers beyond 2\*\*53, as {number}, which floats can't"):
        read(tmp_path, text)
    assert take(read(tmp_path, text, exclude=["id"]).x)[0] == 2.5e300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1\0\1", 'as Parquet files do. Set data.source = "parquet"'),
        (b"ARROW1\0\0", 'as Feather files do. Set data.source = "feather"'),
        (b"\x89HDF\r\n", 'as HDF5 files do. Set data.source = "hdf5"'),
        (b"\x93NUMPY", 'as .npy files do. Set data.source = "npy"'),
        (b"\xd0\xcf\x11\xe0", "as .xls files do. Save the sheet as CSV"),
        (b"SQLite format 3\0", "as databases of SQLite do. Export the table as CSV"),
        (b"%PDF-1.4", "as PDF files do. Export the table as CSV"),
    ],
)
def test_files_of_other_formats(content, words, tmp_path):
    with pytest.raises(DataError, match=rf"d\.csv is no text: it begins {re.escape(words)}\."):
        read(tmp_path, content)


def test_a_name_with_a_comma_is_one_file(tmp_path):
    (tmp_path / "a,b.csv").write_text(TEXT)
    data = schema.Csv(path="a,b.csv", targets=["price"])
    assert take(read_samples(str(tmp_path / "a,b.csv"), data, tmp_path).x).tolist() == X


def test_a_missing_target_is_named(tmp_path):
    (tmp_path / "d.csv").write_text("a,kind\n1,x\n2,\n3,y\n")
    with pytest.raises(DataError, match=r"targets of the training data: column 'kind' .* the first in row 1"):
        load(schema.Csv(path="d.csv", targets=["kind"]), seed=1, dtype="float32", base=tmp_path)


def test_more_words_than_one_hot_is_meant_for(tmp_path):
    text = "k,y\n" + "".join(f"k{number % 10_001},1\n" for number in range(20_010))
    (tmp_path / "d.csv").write_text(text)
    data = schema.Csv(path="d.csv", targets=["y"])
    with pytest.raises(DataError, match=r"column 'k' has 10,001 different words, of which one_hot would make a column"):
        load(data, seed=1, dtype="float32", base=tmp_path)
    as_number = msgspec.structs.replace(data, categories="integer")
    assert load(as_number, seed=1, dtype="float32", base=tmp_path).train.x.shape == (20_010, 1)


def test_an_unknown_column_among_long_names(tmp_path):
    with pytest.raises(DataError, match=r"unknown column in .* 'price'\. Known: a+\.\.\.") as caught:
        read(tmp_path, "a" * 5000 + ",b\n1,2\n")
    assert len(str(caught.value)) < 2500
