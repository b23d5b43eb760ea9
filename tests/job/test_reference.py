"""The reference of settings: complete, readable in a terminal, and the one among the pages is up to date."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hpcnn.job import reference
from hpcnn.job.data import Data
from hpcnn.job.layers import Layer
from hpcnn.job.model import Loss, Model
from hpcnn.job.optimizer import Optimizer, Schedule
from hpcnn.job.reference import BEGIN, END, Setting, as_markdown, as_text, rewritten, section_texts, settings
from hpcnn.job.schema import EarlyStopping, Job, ReduceOnPlateau, Run, Train

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
STRUCTS = [
    *(kind for union in (Data, Layer, Loss, Optimizer, Schedule) for kind in union.__args__),
    *(EarlyStopping, Model, ReduceOnPlateau, Run, Train),
]


def test_every_setting_has_a_text() -> None:
    for row in settings():
        assert row.text.endswith("."), row
        assert row.type, row


def test_every_section_and_kind_has_a_text() -> None:
    texts = section_texts()
    assert {row.section for row in settings()} == texts.keys()
    for section, (text, kinds) in texts.items():
        assert text, section
        assert all(kinds.values()), section


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_field_of_the_schema_is_there(struct: type[msgspec.Struct]) -> None:
    tag = struct.__struct_config__.tag
    listed = {row.key for row in settings() if not row.kind or tag in row.kind.split(", ")}
    assert set(struct.__struct_fields__) <= listed


def test_top_of_the_file() -> None:
    sections = {row.section.partition(".")[0] for row in settings()}
    assert set(Job.__struct_fields__) == sections - {""} | {row.key for row in settings() if not row.section}


def test_no_setting_is_there_twice() -> None:
    rows = [(row.section, kind, row.key) for row in settings() for kind in row.kind.split(", ")]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    "row",
    [
        Setting("train", "", "batch_size", 'integer >= 1, or "full"', "32", ""),
        Setting("train", "", "early_stopping", "table", "none", ""),
        Setting("train.early_stopping", "", "patience", "integer >= 1", "10", ""),
        Setting("data", "npz, csv, hdf5, zarr, parquet, feather", "path", "non-empty string", "required", ""),
        Setting("data", "", "one_hot", "true or false", "false", ""),
        Setting("optimizer", "adam, adamw, rmsprop, adagrad", "epsilon", "number > 0", "1e-07", ""),
        Setting("model.layers", "dropout", "rate", "number >= 0 and < 1", "required", ""),
        Setting("model", "", "layers", "list of tables", "[]", ""),
        Setting("", "", "backend", '"keras", "numpy" or "torch"', '"numpy"', ""),
    ],
    ids=lambda row: f"{row.section}.{row.key}",
)
def test_rows(row: Setting) -> None:
    found = [(r.section, r.kind, r.key, r.type, r.default) for r in settings()]
    assert (row.section, row.kind, row.key, row.type, row.default) in found


def test_keys_shared_by_some_kinds_name_them() -> None:
    kinds = {row.kind for row in settings() if row.key == "label_smoothing"}
    assert kinds == {
        "binary_crossentropy, categorical_crossentropy, sparse_categorical_crossentropy, binary_focal_crossentropy, "
        "categorical_focal_crossentropy"
    }


@pytest.mark.parametrize("width", [60, 80])
def test_text_fits_the_terminal(width: int) -> None:
    lines = as_text(width).splitlines()
    assert max(map(len, lines)) <= width
    assert '  batch_size: integer >= 1, or "full"; default 32' in lines


def test_markdown_tables_are_whole() -> None:
    rows = [line for line in as_markdown().splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
    assert len([line for line in rows if line.startswith("| `")]) == sum(
        len(row.kind.split(", ")) for row in settings()
    )


def test_only_what_is_between_the_markers_is_rewritten() -> None:
    text = rewritten(f"before\n{BEGIN}\nold\n{END}\nafter\n", "x.md")
    assert text.startswith(f"before\n{BEGIN}\n\n## ")
    assert text.endswith(f"|\n\n{END}\nafter\n")
    assert "\nold\n" not in text
    assert rewritten(text, "x.md") == text


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = tmp_path / "x.md"
    document.write_text(f"é {BEGIN} {END}", encoding="utf-8")
    assert reference.main([str(document)]) == 0
    assert as_markdown() in document.read_text(encoding="utf-8")
    assert reference.main([]) == 0
    assert capsys.readouterr().out == as_text() + "\n"


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}"])
def test_command_without_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    document = tmp_path / "x.md"
    document.write_text(text, encoding="utf-8")
    assert reference.main([str(document)]) == 2
    assert "x.md has no lines <!-- settings:begin -->" in capsys.readouterr().err
    assert document.read_text(encoding="utf-8") == text


def test_command_without_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main([str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err


def test_page_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert rewritten(text, "docs/settings.md") == text, "run: python -m hpcnn.job.reference docs/settings.md"
