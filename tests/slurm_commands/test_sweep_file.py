"""Sweep files: their points, and that every value arrives in the job as it was written."""

from __future__ import annotations

import datetime
import io
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcnn.errors import JobError
from hpcnn.job.load import load_job
from hpcnn.job.overrides import apply_overrides
from hpcnn.slurm.sweep import overrides, point_at, points_toml, read_points, to_toml
from hpcnn.sweep import main

EXAMPLE = Path(__file__).parents[2] / "slurm" / "learning_rates.toml"

texts = st.text(st.characters(codec="utf-8"))
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts
dates = st.datetimes() | st.dates() | st.times()
values = st.recursive(scalars | dates, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5)


def written(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_combinations_and_then_the_points(tmp_path: Path) -> None:
    text = '[values]\na.b = [1, 2]\nc = ["x", "y"]\n[[points]]\na.b = 3\n[[points]]\nd = true\n'
    assert read_points(written(tmp_path, text)) == [
        {"a.b": 1, "c": "x"},
        {"a.b": 1, "c": "y"},
        {"a.b": 2, "c": "x"},
        {"a.b": 2, "c": "y"},
        {"a.b": 3},
        {"d": True},
    ]


@given(values)
def test_every_value_survives(value: Any) -> None:
    assert tomllib.loads(f"value = {to_toml(value)}")["value"] == value


@given(scalars)
def test_every_value_arrives_in_the_job_on_one_line(value: Any) -> None:
    (override,) = overrides({"run.monitor": value})
    assert override.isprintable() or not any(end in override for end in "\n\r\0")
    table: dict[str, Any] = {}
    apply_overrides(table, [override])
    assert table == {"run": {"monitor": value}}
    assert type(table["run"]["monitor"]) is type(value)


@given(st.lists(st.dictionaries(texts, scalars, min_size=1), max_size=3))
def test_points_written_down_are_the_same_points(points: list[dict[str, Any]]) -> None:
    table = tomllib.load(io.BytesIO(points_toml(points).encode()))
    assert table.get("points", []) == points


def test_points_of_a_run_folder_are_read_back(tmp_path: Path) -> None:
    points = [{"optimizer.learning_rate": 0.1, "optimizer.name": "sgd"}, {"data.x": datetime.date(2026, 1, 2)}]
    assert read_points(written(tmp_path, points_toml(points))) == points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no values. For example:\n\[values\]"),
        ("[values]\n", "no values"),
        ("[value]\na = [1]\n", r"unknown key .* 'value'. Did you mean 'values'\?"),
        ("[values]\na = 1\n", r"a = 1: expected a list of values"),
        ("[values]\na = []\n", r"a = \[\]: expected a list of values"),
        ("values = 3\n", r"\[values\] must be a table"),
        ("points = 3\n", r"\[\[points\]\] must be tables"),
        ("[[points]]\n", r"\[\[points\]\] must be tables"),
        ("[values\n", r"sweep.toml: "),
        ('[values]\n"a\\nb" = [1]\n', "expected a key of a job file"),
        ("[values]\n" + "".join(f"k{i} = [1, 2, 3, 4]\n" for i in range(9)), "more than 10000 combinations"),
    ],
)
def test_what_is_no_sweep(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        read_points(written(tmp_path, text))


def test_files_that_are_missing_or_huge(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="can't read the sweep file"):
        read_points(tmp_path / "none.toml")
    with pytest.raises(JobError, match="is not a sweep file"):
        read_points(written(tmp_path, "#" * 2**21))


@pytest.mark.parametrize("index", [-1, 6])
def test_a_point_that_is_none(index: int) -> None:
    with pytest.raises(JobError, match=f"no point {index}: the sweep has points 0 to 5"):
        point_at(read_points(EXAMPLE), index)


def test_the_example_fits_the_digits() -> None:
    points = read_points(EXAMPLE)
    rates = [load_job(overrides=overrides(point)).job.optimizer.learning_rate for point in points]
    assert rates == [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1]


def test_arguments_are_lines(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    path = written(tmp_path, '[[points]]\nrun.monitor = "é\\n"\ntrain.seed = 1\n')
    assert main(["args", str(path), "0"]) == 0
    assert capfdbinary.readouterr().out == '--set\nrun.monitor="é\\n"\n--set\ntrain.seed=1\n'.encode()


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(EXAMPLE)]) == 0
    assert capsys.readouterr().out.splitlines()[3] == "3  optimizer.learning_rate=0.01"


def test_a_bad_index_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["args", str(EXAMPLE), "17"]) == 2
    assert capsys.readouterr().err.startswith("hpcnn: error: no point 17")
