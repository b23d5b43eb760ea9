"""One table in many forms: the same values, words and dates, and the same weights; parts, folders and addresses."""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcnn.data.readers import reader_of
from hpcnn.data.tables.dialect import found_delimiter
from hpcnn.data.tables.table import Table
from hpcnn.data.tables.text import text_column
from hpcnn.errors import DataError, MissingExtraError
from hpcnn.job import data as schema
from tests.require import require
from tests.small_jobs import make_job, train

N = 23
DRAW = np.random.default_rng(4)
COLUMNS: dict[str, list[Any]] = {
    "größe": DRAW.normal(1, 3, N).tolist(),
    "rooms": [None if one == 3 else one for one in DRAW.integers(0, 9, N).tolist()],
    "city": ["Köln", "Bern", "St. Gallen", "a, b"] * 5 + ["Bern"] * 3,
    "price": DRAW.normal(size=N).round(2).tolist(),
    "sold": [f"2024-0{one}-11 0{one}:30:00" for one in DRAW.integers(1, 9, N).tolist()],
    "pool": ["true" if one else "false" for one in DRAW.integers(0, 2, N).tolist()],
    "lot": DRAW.integers(0, 5, N).tolist(),
}


def text(
    columns: dict[str, list[Any]] = COLUMNS, start: int = 0, stop: int = N, comma: bool = False, **dialect: Any
) -> str:
    """Return rows of columns as CSV, with decimal commas if asked for."""
    out = io.StringIO()
    writer = csv.writer(out, **{"lineterminator": "\n", **dialect})
    writer.writerow(columns)
    for row in [*zip(*columns.values(), strict=True)][start:stop]:
        cells = ["" if cell is None else str(cell) for cell in row]
        writer.writerow([
            cell.replace(".", ",") if comma and isinstance(value, float) else cell
            for cell, value in zip(cells, row, strict=True)
        ])  # fmt: skip
    return out.getvalue()


def arrow_table(start: int = 0, stop: int = N) -> Any:
    """Return the columns as other programs keep them: with types, gaps and categories."""
    pyarrow = require("pyarrow")
    columns = {name: values[start:stop] for name, values in COLUMNS.items()}
    columns["pool"] = [one == "true" for one in columns["pool"]]
    columns["sold"] = pyarrow.array(np.array(columns["sold"], "M8[s]"))
    columns["city"] = pyarrow.array(columns["city"]).dictionary_encode()
    return pyarrow.table(columns)


def parquet_bytes(start: int = 0, stop: int = N) -> bytes:
    out = io.BytesIO()
    require("pyarrow.parquet").write_table(arrow_table(start, stop), out)
    return out.getvalue()


def feather_bytes() -> bytes:
    out = io.BytesIO()
    require("pyarrow.feather").write_feather(arrow_table(), out)
    return out.getvalue()


def zstd_bytes(content: str) -> bytes:
    return require("pyarrow").compress(content.encode(), codec="zstd", asbytes=True)  # type: ignore[no-any-return]


def in_three(write: Callable[[int, int], str | bytes], ending: str) -> dict[str, str | bytes]:
    spans = ((0, 5), (5, 6), (6, N))
    return {f"d/part-{part}{ending}": write(*span) for part, span in enumerate(spans)} | {"d/_SUCCESS": "", "d/.x": "?"}


def backwards(start: int, stop: int) -> str:
    """Return rows with the columns in another order in every second part."""
    order = [*COLUMNS] if start == 5 else [*reversed(COLUMNS)]
    return text({name: COLUMNS[name] for name in order}, start, stop)


PLAIN = text()
FORMS: dict[str, Callable[[], tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "a mark": lambda: ({"d.csv": b"\xef\xbb\xbf" + PLAIN.encode()}, "d.csv", {}),
    "CR LF": lambda: ({"d.csv": PLAIN.replace("\n", "\r\n")}, "d.csv", {}),
    "CR": lambda: ({"d.csv": PLAIN.replace("\n", "\r")}, "d.csv", {}),
    "quotes": lambda: ({"d.csv": text(quoting=csv.QUOTE_ALL)}, "d.csv", {}),
    "semicolons": lambda: ({"d.csv": text(comma=True, delimiter=";")}, "d.csv", {}),
    "tabs": lambda: ({"d.tsv": text(delimiter="\t")}, "d.tsv", {}),
    "bars": lambda: ({"d.txt": text(delimiter="|")}, "d.txt", {}),
    "blanks": lambda: ({"d.txt": text(delimiter=" ").replace("  ", "\t NA ").replace("\n", " \n")}, "d.txt", {}),
    "UTF-16": lambda: ({"d.csv": PLAIN.encode("utf-16")}, "d.csv", {}),
    "Latin-1": lambda: ({"d.csv": PLAIN.encode("latin-1")}, "d.csv", {"encoding": "latin-1"}),
    "gzip": lambda: ({"d.csv.gz": gzip.compress(PLAIN.encode())}, "d.csv.gz", {}),
    "xz, by another name": lambda: ({"d": lzma.compress(PLAIN.encode())}, "d", {}),
    "zstd": lambda: ({"d.csv.zst": zstd_bytes(PLAIN)}, "d.csv.zst", {}),
    "Parquet": lambda: ({"d.parquet": parquet_bytes()}, "d.parquet", {"source": "parquet"}),
    "Feather": lambda: ({"d.feather": feather_bytes()}, "d.feather", {"source": "feather"}),
    "three parts": lambda: (in_three(backwards, ".csv"), "d", {}),
    "three parts of Parquet": lambda: (in_three(parquet_bytes, ".parquet"), "d", {"source": "parquet"}),
    "a pattern": lambda: (in_three(backwards, ".csv"), "d/part-*", {}),
    "another order": lambda: ({"d.csv": backwards(0, N)}, "d.csv", {}),
}


def job(folder: Path, path: str, **settings: Any) -> Any:
    data = {"source": "csv", "path": str(folder / path), "targets": ["price"], "missing": "mean", "scale": "minmax"}
    return make_job(
        data={**data, **settings}, loss={"name": "mse"}, model={"layers": [{"type": "dense", "units": 1}]},
        train={"metrics": [], "epochs": 1},
    )  # fmt: skip


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def read(folder: Path, path: str, section: type[schema.TableSection] = schema.Csv, **settings: Any) -> Table:
    data = section(path=path, targets=[0], **settings)
    reader: Any = reader_of(data)
    return reader.table(reader.find(path, folder), data)  # type: ignore[no-any-return]


def values(table: Table) -> dict[str, tuple[Any, ...]]:
    """Return the bits of columns by name: numbers as float64, in which integers of files have no type of their own."""
    return {
        column.name: (column.kind, column.values.astype(np.float64).tobytes(), column.words)
        for column in table.columns
        if column.kind != "boolean"
    } | {
        column.name: (column.kind, column.values.astype(np.float64).tobytes())
        for column in table.columns
        if column.kind == "boolean"
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("plain")
    write(folder, {"d.csv": PLAIN})
    return values(read(folder, "d.csv")), train(job(folder, "d.csv")).fingerprint


@pytest.mark.parametrize("form", FORMS)
def test_the_same_table_and_weights(form: str, plain: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    files, path, settings = FORMS[form]()
    write(tmp_path, files)
    assert train(job(tmp_path, path, **settings)).fingerprint == plain[1]
    section = {"parquet": schema.Parquet, "feather": schema.Feather}.get(settings.pop("source", ""), schema.Csv)
    assert values(read(tmp_path, path, section, **settings)) == plain[0]


def test_what_the_columns_are(plain: tuple[dict[str, Any], str]) -> None:
    assert {name: found[0] for name, found in plain[0].items()} == {
        "größe": "number", "rooms": "number", "city": "words", "price": "number", "sold": "date", "pool": "boolean",
        "lot": "number",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- kinds


KINDS = {
    "numbers": (["1", "NA", "2e3"], "number"),
    "nothing": (["", "null"], "number"),
    "yes and no": (["Yes", "no", "NO"], "boolean"),
    "a third word": (["yes", "no", "perhaps"], "words"),
    "days": (["2024-05-31", "1999/01/02", "-"], "date"),
    "times": (["2024-05-31 17:45", "2024-05-31T17:45:01.25+02:00", "2024-05-31T17:45Z"], "date"),
    "ambiguous days": (["01/02/2003", "31.12.2003"], "words"),
    "a day that is none": (["2024-02-30"], "words"),
    "a mixed separator": (["2024-05/31"], "words"),
    "midnight of 24 hours": (["2024-05-31 24:00"], "words"),
    "numbers with underscores": (["1_000"], "words"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds(case: str) -> None:
    cells, kind = KINDS[case]
    assert text_column("a", cells).kind == kind


def test_dates_are_seconds_in_utc() -> None:
    column = text_column("a", ["1970-01-02", "1970/01/01 00:01", "1970-01-01T01:00:00.5+01:00", ""])
    np.testing.assert_array_equal(column.values, [86400, 60, 0.5, np.nan])


DELIMITERS = {
    "a;b\n1,5;2,5\n": ";",
    "a,b\n1;x,2\n": ",",
    "a\tb c\n1\t2\n": "\t",
    "x y z\n 1   2 3\n": "whitespace",
    '"a,b";c\n"1,2";3\n': ";",
    "name|born\nA, B|1970-01-01\n": "|",
    "only one column\n": "whitespace",
    "a\n1\n": ",",
    "": ",",
}


@pytest.mark.parametrize("content", DELIMITERS)
def test_separators_are_found(content: str) -> None:
    assert found_delimiter(content.encode()) == DELIMITERS[content]


def test_types_of_arrow(tmp_path: Path) -> None:
    pyarrow = require("pyarrow")
    from decimal import Decimal

    given = {
        "half": (pyarrow.array([1.5, None], pyarrow.float16()), [1.5, np.nan]),
        "tiny": (pyarrow.array([-1, 7], pyarrow.int8()), [-1, 7]),
        "large": (pyarrow.array([2**53, None], pyarrow.uint64()), [2.0**53, np.nan]),
        "decimal": (pyarrow.array([Decimal("1.25"), None]), [1.25, np.nan]),
        "flag": (pyarrow.array([True, None]), [1, np.nan]),
        "day": (pyarrow.array([1, None], pyarrow.date32()), [86400, np.nan]),
        "day in milliseconds": (pyarrow.array([86400000, None], pyarrow.date64()), [86400, np.nan]),
        "nanoseconds": (pyarrow.array([1500, -1000], pyarrow.timestamp("ns", "Europe/Rome")), [1e-6, -1e-6]),
        "nothing": (pyarrow.nulls(2), [np.nan, np.nan]),
        "word": (pyarrow.array(["b ", None]), [0, -1]),
        "large word": (pyarrow.array([None, "a"], pyarrow.large_string()), [-1, 0]),
        "category": (pyarrow.array(["b", "a"]).dictionary_encode(), [1, 0]),
        "number in words": (pyarrow.array(["2", "1"]), [1, 0]),
    }
    require("pyarrow.parquet").write_table(
        pyarrow.table({name: array for name, (array, _) in given.items()}), tmp_path / "d.parquet"
    )
    for column in read(tmp_path, "d.parquet", schema.Parquet).columns:
        np.testing.assert_array_equal(column.values, given[column.name][1], err_msg=column.name)
        assert (column.kind == "words") == ("word" in column.name or column.name == "category")


# ----------------------------------------------------------------------------------------------- parts and addresses


def test_folders_give_columns(tmp_path: Path) -> None:
    for ending, form in ((".csv", lambda: "a,b\n1,2\n3,4\n"), (".parquet", parquet_bytes)):
        folder = tmp_path / ending
        write(folder, {
            f"d/year=2023/month={month}/part{ending}": form() for month in (1, "__HIVE_DEFAULT_PARTITION__")
        } | {f"d/year=2024/month=a%20b/part{ending}": form()} | {"d/_delta_log/0.csv": "x"})  # fmt: skip
        table = read(folder, "d", schema.Csv if ending == ".csv" else schema.Parquet)
        year, month = table.columns[-2:]
        rows = len(table) // 3
        assert (year.name, year.kind, month.words) == ("year", "number", ("1", "a b"))
        np.testing.assert_array_equal(year.values[::rows], [2023, 2023, 2024])
        np.testing.assert_array_equal(month.values[::rows], [0, -1, 1])


def test_parts_are_joined_with_a_type_for_all(tmp_path: Path) -> None:
    pyarrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    for part, (number, word) in enumerate((([1, 2], ["b", "c"]), ([0.5, None], ["a", "b"]), (None, None))):
        given = {"n": number or pyarrow.nulls(2), "w": word or pyarrow.nulls(2)}
        parquet.write_table(pyarrow.table(given), tmp_path / f"{part}.parquet")
    table = read(tmp_path, str(tmp_path), schema.Parquet)
    np.testing.assert_array_equal(table.columns[0].values, [1, 2, 0.5, np.nan, np.nan, np.nan])
    assert table.columns[1].words == ("a", "b", "c")
    np.testing.assert_array_equal(table.columns[1].values, [1, 2, 0, 1, -1, -1])


BAD: dict[str, tuple[dict[str, str | bytes], str, str]] = {
    "other columns": ({"d/1.csv": "a,b\n1,2\n", "d/2.csv": "a,c\n1,2\n"}, "d", r"columns of .*2\.csv \(a, c\) are not"),
    "fewer columns": (
        {"d/1.csv": "a,b\n1,2\n", "d/2.csv": "a\n1\n"},
        "d",
        r"the columns of .*2\.csv \(a\) are n",
    ),
    "an empty part": ({"d/1.csv": "a,b\n1,2\n", "d/2.csv": "a,b\n"}, "d", r"2\.csv holds no row of data below its h"),
    "no part": ({"d/_SUCCESS": "", "d/.1.csv.crc": ""}, "d", r"d holds no file of a table: expected files that end in"),
    "other folders": (
        {"d/y=1/1.csv": "a,b\n1,2\n", "d/2.csv": "a,b\n1,2\n"},
        "d",
        r"the folders of .*1\.csv give the columns y, those of .*2\.csv none\. Give all parts of a table the same fold",
    ),
    "no match": ({"d/1.csv": "a,b\n1,2\n"}, "d/*.txt", r"no file matches 'd/\*\.txt': looked for /"),
    "no file": ({"d/1.csv": "a,b\n1,2\n"}, "e.csv", r"no data file 'e\.csv': looked for"),
    "a file that is none": ({"d/1.csv": "a,b\n1,2\n"}, "/dev/null", r"/dev/null"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parts(case: str, tmp_path: Path) -> None:
    files, path, message = BAD[case]
    write(tmp_path, files)
    with pytest.raises(DataError, match=message):
        read(tmp_path, path)


def test_parts_of_other_types(tmp_path: Path) -> None:
    pyarrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    for part, given in enumerate(([1], ["x"])):
        parquet.write_table(pyarrow.table({"n": given}), tmp_path / f"{part}.parquet")
    with pytest.raises(DataError, match=r"column 'n' has other types in other parts: int64, string\. Write all"):
        read(tmp_path, str(tmp_path), schema.Parquet)


def test_a_column_that_is_left_out_may_be_anything(tmp_path: Path) -> None:
    table = require("pyarrow").table({"a": [1.0], "id": [2**60], "tags": [["x"]], "y": [1]})
    require("pyarrow.parquet").write_table(table, tmp_path / "d.parquet")
    data = schema.Parquet(path="d.parquet", targets=["y"], exclude=["id", "tags"])
    assert reader_of(data).read(data, tmp_path).feature_names == ("a",)
    write(tmp_path, {"d.csv": 'a,id,y\n1,"1,234",2\n'})
    text_data = schema.Csv(path="d.csv", targets=["y"], exclude=["id"], decimal=".")
    assert reader_of(text_data).read(text_data, tmp_path).feature_names == ("a",)


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    write(tmp_path, {"[a]/1.csv": "a,b\n1,2\n", "[a]/2.csv": "a,b\n3,4\n"})
    for path in ("[12].csv", "*.csv"):
        np.testing.assert_array_equal(read(tmp_path / "[a]", path).columns[0].values, [1, 3])
    assert len(read(tmp_path, "[a]")) == 2


@pytest.fixture
def remote(tmp_path: Path) -> Any:
    """Return a file system in memory with tables."""
    found = require("fsspec").filesystem("memory")
    write(tmp_path, {"1.csv": "a,b\n1,2\n", "2.csv": "a,b\n3,4\n", "x.txt": "?"})
    found.put(str(tmp_path), "/data", recursive=True)
    yield found
    found.rm("/data", recursive=True)


def test_addresses(remote: Any, tmp_path: Path) -> None:
    for start in ("memory://data", f"file://{tmp_path}"):
        for path in ("", "/", "/*.csv", "/[1*.csv", "/1.csv"):
            if path.startswith("/["):
                with pytest.raises(DataError, match=r"no file matches .*\[1\*\.csv\. Check the address"):
                    read(tmp_path, start + path)
                continue
            table = read(tmp_path, start + path)
            np.testing.assert_array_equal(table.columns[0].values, [1] if path == "/1.csv" else [1, 3])
            assert table.path == start + path
    out = io.BytesIO()
    require("pyarrow.parquet").write_table(require("pyarrow").table({"a": [5]}), out)
    remote.pipe("/data/d.parquet", out.getvalue())
    assert read(tmp_path, "memory://data/d.parquet", schema.Parquet).columns[0].values == [5]


NOWHERE = {
    "memory://nowhere/x.csv": r"there is no memory://nowhere/x\.csv\. Check the address",
    "file:///nowhere/*.csv": r"there is no file:///nowhere/\*\.csv\. Check the address",
    "spaceship://x.csv": r"spaceship://x\.csv can't be opened: Protocol not known: spaceship",
}


@pytest.mark.parametrize("address", NOWHERE)
def test_addresses_of_nothing(address: str, tmp_path: Path) -> None:
    require("pyarrow")
    require("fsspec")
    with pytest.raises(DataError, match=NOWHERE[address]):
        read(tmp_path, address)


def test_an_address_whose_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("pyarrow")
    require("fsspec")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    with pytest.raises(
        DataError, match=r"http://x/d\.csv can't be opened: .*aiohttp.* Install with pip what is missing"
    ):
        read(tmp_path, "http://x/d.csv")


def test_a_pattern_at_a_server_that_lists_no_files(tmp_path: Path) -> None:
    memory = require("fsspec.implementations.memory")

    class Files(memory.MemoryFileSystem):  # type: ignore[misc,name-defined]
        protocol = "files"

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": 1, "type": "file"}

    require("fsspec").register_implementation("files", Files, clobber=True)
    with pytest.raises(DataError, match=r"files://d/\*\.csv is a pattern, but its server does not list files\. Give"):
        read(tmp_path, "files://d/*.csv")


@pytest.mark.parametrize(("package", "address"), [("pyarrow", "s3://b/x.csv"), ("fsspec", "memory://x.csv")])
def test_missing_packages(package: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("pyarrow")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"reading {address} needs .*'{package}'.*hpcnn\[remote\]"):
        read(tmp_path, address)
