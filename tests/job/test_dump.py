"""A job as text and plain values: nothing lost, nothing added, and differences that name themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcnn.job import differing_settings, load_job, resolved_toml, result_settings

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.toml"))


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_resolved_job_reads_back_to_the_same_job(path: Path, tmp_path: Path) -> None:
    job = load_job(path).job
    copy = tmp_path / "other_name.toml"
    copy.write_text(resolved_toml(job), encoding="utf-8")
    assert load_job(copy).job == job


def test_resolved_job_writes_defaults_out_and_leaves_none_out() -> None:
    text = resolved_toml(load_job().job)
    assert "beta_1 = 0.9\n" in text
    assert "early_stopping" not in text
    assert "input_shape" not in text


def test_dates_in_options_survive(tmp_path: Path) -> None:
    overrides = ["model.layers=", "model.entry=a.b:c", "model.options={ day = 2026-01-02, at = 07:32:00 }"]
    job = load_job(overrides=overrides).job
    (tmp_path / "x.toml").write_text(resolved_toml(job), encoding="utf-8")
    assert load_job(tmp_path / "x.toml").job.model.options == job.model.options
    assert str(job.model.options["day"]) == "2026-01-02"


def test_result_settings_are_all_but_name_and_run() -> None:
    settings = result_settings(load_job().job)
    assert list(settings) == [
        "backend",
        "data",
        "model",
        "loss",
        "losses",
        "optimizer",
        "schedule",
        "train",
        "keras",
        "torch",
    ]
    assert settings["optimizer"]["name"] == "adam"
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        ([], []),
        (["name=x", "run.display=quiet"], []),
        (["train.batch_size=128"], ["train.batch_size: 64 -> 128"]),
        (["train.epochs=50", "data.scale=minmax"], ['data.scale: "standardize" -> "minmax"', "train.epochs: 40 -> 50"]),
        (["train.metrics=[]"], ['train.metrics: ["accuracy", "confusion_matrix"] -> []']),
        (["model.layers.2.rate=0.5"], ["model.layers.2.rate: 0.3 -> 0.5"]),
        (["model.layers.4="], ['model.layers.4.type: "dropout" -> "dense"']),
        (["train.early_stopping.patience=3"], ["train.early_stopping.patience: none -> 3"]),
        (["optimizer.name=sgd"], ['optimizer.name: "adam" -> "sgd"', "optimizer.beta_1: 0.9 -> none"]),
    ],
)
def test_differences_are_named(overrides: list[str], lines: list[str]) -> None:
    old, new = result_settings(load_job().job), result_settings(load_job(overrides=overrides).job)
    found = differing_settings(old, new)
    assert set(lines) <= set(found)
    assert bool(found) == bool(lines)
    assert not [line for line in found if line.endswith("none -> none")]


def test_a_single_difference_is_the_only_line() -> None:
    old = result_settings(load_job().job)
    new = result_settings(load_job(overrides=["train.seed=2"]).job)
    assert differing_settings(old, new) == ["train.seed: 0 -> 2"]
