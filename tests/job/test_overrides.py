"""`--set key=value`: what it changes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from hpcnn.errors import JobError
from hpcnn.job.load import load_job
from hpcnn.job.overrides import DEFAULT_TAGS, TAG_FIELDS, apply_overrides
from hpcnn.job.reference import settings
from hpcnn.job.validate import job_type, tables

TABLE: dict[str, Any] = {
    "model": {"layers": [{"type": "dense", "units": 8}, {"type": "residual", "layers": [{"type": "flatten"}]}]},
    "optimizer": {"name": "adam", "beta_1": 0.8},
    "train": {"epochs": 5, "metrics": ["mae", "mse"]},
}


def after(*overrides: str) -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    apply_overrides(table, overrides)
    return table


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("true", True),
        ("full", "full"),
        ('"full"', "full"),
        ('""', ""),
        ("True", "True"),
        ("a=b", "a=b"),
        ("data/x y.npz", "data/x y.npz"),
        ("[1, 2]", [1, 2]),
        ("[1, 2", "[1, 2"),
        ("{ patience = 3 }", {"patience": 3}),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_value_is_toml_or_else_a_string(text: str, value: object) -> None:
    assert after(f"train.key={text}")["train"]["key"] == value


def test_list_entries_by_position() -> None:
    table = after("model.layers.0.units=64", "train.metrics.1=r2", "model.layers.1.layers.0.name=x")
    assert table["model"]["layers"][0] == {"type": "dense", "units": 64}
    assert table["train"]["metrics"] == ["mae", "r2"]
    assert table["model"]["layers"][1]["layers"] == [{"type": "flatten", "name": "x"}]


def test_missing_tables_are_made() -> None:
    assert after("train.early_stopping.patience=3")["train"]["early_stopping"] == {"patience": 3}
    assert after("run.display=quiet")["run"] == {"display": "quiet"}


@pytest.mark.parametrize(("section", "tag"), DEFAULT_TAGS.items())
def test_a_section_left_out_is_of_its_default_kind(section: str, tag: str) -> None:
    table: dict[str, Any] = {}
    apply_overrides(table, [f"{section}.key=3"])
    assert table == {section: {"name": tag, "key": 3}}


def test_empty_value_takes_a_setting_out() -> None:
    assert "epochs" not in after("train.epochs=")["train"]
    assert after("train.shuffle=") == TABLE
    assert after("train.metrics.0=")["train"]["metrics"] == ["mse"]
    assert "optimizer" not in after("optimizer=")


def test_an_empty_string_is_a_value() -> None:
    """It is how an IDX job is told to have no validation files; its settings say so."""
    assert after('name=""')["name"] == ""
    quoted = ['data.validation_images=""', 'data.validation_labels=""']
    bare = load_job(
        None, ["data.source=idx", "data.folder=.", "run.monitor=loss", "train.early_stopping=", *quoted]
    ).job.data
    assert bare.validation_images == ""  # type: ignore[union-attr]
    (row,) = [row for row in settings() if row.key == "validation_images"]
    assert quoted[0] in row.text


@pytest.mark.parametrize(
    "override",
    ["train.epochs=", "train.shuffle=", "train.shards=", "optimizer=", "model.layers.1.activation= "],
)
def test_an_empty_value_of_a_setting_that_has_a_default_is_refused(override: str) -> None:
    """As of a variable of a shell that is not set."""
    with pytest.raises(
        JobError, match=rf"--set {override.strip()}: the value is empty, perhaps a variable that is not set"
    ):
        load_job(None, [override])


def test_an_empty_value_of_a_setting_without_one_removes_it() -> None:
    job = load_job(None, ["schedule.length=3", "schedule.length=", "train.metrics.0=", "run.loggers=", "name="]).job
    assert (job.schedule.length, len(job.train.metrics), job.run.loggers) == (None, 1, [])  # type: ignore[union-attr]
    apply_overrides(table := {"train": {"epochs": 3}}, {"train.epochs": None})
    assert table == {"train": {}}


def test_another_kind_replaces_the_table() -> None:
    assert after("optimizer.name=sgd")["optimizer"] == {"name": "sgd"}
    assert after("model.layers.0.type=flatten")["model"]["layers"][0] == {"type": "flatten"}
    assert after("model.layers.1.layers.0.type=dropout")["model"]["layers"][1]["layers"] == [{"type": "dropout"}]


def test_the_same_kind_keeps_the_table() -> None:
    assert after("optimizer.name=adam") == TABLE


def test_another_kind_keeps_what_was_set_on_the_command_line_in_any_order() -> None:
    expected = {"name": "sgd", "momentum": 0.9}
    assert after("optimizer.momentum=0.9", "optimizer.name=sgd")["optimizer"] == expected
    assert after("optimizer.name=sgd", "optimizer.momentum=0.9")["optimizer"] == expected


def test_a_kind_where_the_file_has_none_keeps_the_table() -> None:
    table = {"optimizer": {"momentum": 0.9}}
    apply_overrides(table, ["optimizer.name=sgd"])
    assert table == {"optimizer": {"momentum": 0.9, "name": "sgd"}}


def test_a_name_that_is_no_kind_keeps_the_table() -> None:
    assert after("model.layers.0.name=x")["model"]["layers"][0] == {"type": "dense", "units": 8, "name": "x"}


def test_the_last_of_two_wins() -> None:
    assert after("train.epochs=1", "train.epochs=2")["train"]["epochs"] == 2


def test_keys_that_were_set_are_returned() -> None:
    assert apply_overrides({}, ["train.epochs=1", "name=x"]) == {("train", "epochs"): False, ("name",): False}


def test_kinds_are_those_of_the_schema() -> None:
    fields = {field.encode_name: field for field in job_type().fields}
    kinds = {key: tables(field.type) for key, field in fields.items()}
    assert {key: some[0].tag_field for key, some in kinds.items() if len(some) > 1} == TAG_FIELDS
    defaults = {key: fields[key].default or fields[key].default_factory for key in DEFAULT_TAGS}
    tags = {key: (value() if callable(value) else value).__struct_config__.tag for key, value in defaults.items()}
    assert tags == DEFAULT_TAGS


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "--set train.epochs: expected key=value, for example --set train.epochs=20"),
        ("=3", "--set =3: expected key=value"),
        ("train..epochs=3", "--set train..epochs=3: expected key=value"),
        ("train.epochs.x=3", "--set train.epochs.x=3: train.epochs is 5, not a table"),
        ("train.epochs.x.y=3", "--set train.epochs.x.y=3: train.epochs is 5, not a table"),
        ("model.layers.2.units=3", "--set model.layers.2.units=3: model.layers has positions 0 to 1, not 2"),
        ("model.layers.2=x", "model.layers has positions 0 to 1, not 2"),
        ("model.layers.-1.units=3", "model.layers is a list: expected a position such as model.layers.0, not '-1'"),
        (
            "model.layers.dense.units=3",
            "model.layers is a list: expected a position such as model.layers.0, not 'dense'",
        ),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(override: str, message: str) -> None:
    with pytest.raises(JobError, match=re.escape(message)):
        after(override)


def test_an_empty_list_has_no_positions() -> None:
    with pytest.raises(JobError, match=r"--set a\.0=1: a has no entries, not 0"):
        apply_overrides({"a": []}, ["a.0=1"])
