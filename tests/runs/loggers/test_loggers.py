"""What loggers write, read back by those whom it is for; stopped and resumed, failing, and without their packages."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

import hpcnn
from hpcnn.errors import MissingExtraError
from hpcnn.job.schema import Run
from hpcnn.runs.loggers import LOGGERS, check_loggers
from hpcnn.runs.loggers.csv import CsvLogger
from hpcnn.runs.loggers.logger import Logger
from tests.require import require

X = np.random.default_rng(0).normal(size=(40, 3))
Y = (X[:, 0] > 0).astype(int)
JOB: dict[str, Any] = {
    "name": "signs",
    "data": {"validation_fraction": 0.25},
    "model": {"layers": [{"type": "dense", "units": 2, "activation": "softmax"}]},
    "loss": {"name": "sparse_categorical_crossentropy"},
    "train": {"epochs": 4, "batch_size": 10, "metrics": ["accuracy", "confusion_matrix"]},
    "run": {"display": "quiet"},
}
STOP = {"run.stop_at_step": 8}  # within the third epoch of three steps


def train(out: Path, *loggers: str, **overrides: Any) -> hpcnn.Fitted:
    settings = {"run.loggers": list(loggers), **overrides}
    return hpcnn.fit(JOB, (X, Y), out=out, resume="auto", overrides=settings)


def train_in_two(out: Path, *loggers: str) -> hpcnn.Fitted:
    with pytest.raises(hpcnn.TrainingStoppedError):
        train(out, *loggers, **STOP)
    return train(out, *loggers)


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_schema_knows_every_logger() -> None:
    (annotation,) = (field.type for field in msgspec.structs.fields(Run) if field.name == "loggers")
    assert set(get_args(get_args(annotation)[0])) == LOGGERS.keys()


# ---------------------------------------------------------------------------------------------------------------- CSV


def test_csv(tmp_path: Path) -> None:
    train_in_two(tmp_path, "csv", "csv")
    rows, lines = rows_of(tmp_path), lines_of(tmp_path)
    assert list(rows[0]) == [name for name in lines[0] if "confusion" not in name]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == [
        {name: value for name, value in line.items() if "confusion" not in name} for line in lines
    ]
    assert len(rows) == 4


def test_csv_of_values_that_are_not_defined(tmp_path: Path) -> None:
    logger = CsvLogger(None, SimpleNamespace(path=tmp_path))  # type: ignore[arg-type]
    logger.open([{"epoch": 1, "r2": None}])
    logger.log({"epoch": 2, "r2": 0.5, "new": 1.0})
    logger.log({"epoch": 3})
    assert (tmp_path / "metrics.csv").read_text() == "epoch,r2\n1,\n2,0.5\n3,\n"
    logger = CsvLogger(None, SimpleNamespace(path=tmp_path))  # type: ignore[arg-type]
    logger.open([])
    assert not (tmp_path / "metrics.csv").exists()


def test_a_logger_that_comes_later_gets_all_epochs(tmp_path: Path) -> None:
    with pytest.raises(hpcnn.TrainingStoppedError):
        train(tmp_path, **STOP)
    train(tmp_path, "csv")
    assert [row["epoch"] for row in rows_of(tmp_path)] == ["1", "2", "3", "4"]


# --------------------------------------------------------------------------------------------------------- TensorBoard


def accumulator(folder: Path) -> Any:
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder))


def test_tensorboard_reads_back_what_was_logged(tmp_path: Path) -> None:
    fitted = train_in_two(tmp_path, "tensorboard")
    lines = lines_of(tmp_path)
    for run, prefix in (("train", ""), ("validation", "val_")):
        events = accumulator(tmp_path / "tensorboard" / run)
        events.Reload()
        names = {name.removeprefix("val_") for name in lines[0] if name.startswith(prefix) and "matrix" not in name}
        names = {name for name in names if prefix or f"val_{name}" in lines[0] or "val_" not in name}
        others = {"epoch", "step"}
        assert set(events.Tags()["scalars"]) == {f"epoch_{name}" for name in names - others}
        for name in names - others:
            logged = [(event.step, event.value) for event in events.Scalars(f"epoch_{name}")]
            assert logged == [(line["epoch"], pytest.approx(line[prefix + name], rel=1e-6)) for line in lines]
    times = [event.wall_time for event in events.Scalars("epoch_loss")]
    assert times == sorted(times)
    events = accumulator(tmp_path / "tensorboard" / "train")
    events.Reload()
    (text,) = (event.tensor_proto.string_val[0].decode() for event in events.Tensors("weights_sha256"))
    assert text == fitted.weights_sha256
    text = events.Tensors("job")[-1].tensor_proto.string_val[0].decode()
    assert '    name = "signs"\n' in text
    assert len(list((tmp_path / "tensorboard").rglob("*tfevents*"))) == 4


def test_tensorboard_shows_the_settings_as_hyperparameters(tmp_path: Path) -> None:
    train(tmp_path, "tensorboard", **{"train.epochs": 1, "data.validation_fraction": 0})
    events = accumulator(tmp_path / "tensorboard" / "train")
    events.Reload()
    from tensorboard.plugins.hparams import metadata

    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = metadata.parse_session_start_info_plugin_data(content).hparams
    assert settings["train.batch_size"].number_value == 10
    assert settings["train.shuffle"].bool_value is True
    assert settings["loss.name"].string_value == "sparse_categorical_crossentropy"
    assert settings["train.metrics"].string_value == '["accuracy", "confusion_matrix"]'
    assert not (tmp_path / "tensorboard" / "validation").exists()


def test_a_viewer_that_is_running_sees_no_epoch_twice(tmp_path: Path) -> None:
    with pytest.raises(hpcnn.TrainingStoppedError):
        train(tmp_path, "tensorboard", **STOP)
    events = accumulator(tmp_path / "tensorboard" / "train")
    events.Reload()
    assert [event.step for event in events.Scalars("epoch_loss")] == [1, 2]
    train(tmp_path, "tensorboard")
    events.Reload()
    assert [event.step for event in events.Scalars("epoch_loss")] == [1, 2, 3, 4]


# -------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("name", ["mlflow", "tensorboard", "wandb"])
def test_a_missing_package_is_said_before_anything_is_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == name else found(package))
    with pytest.raises(MissingExtraError, match=rf'run.loggers = \["{name}"\] needs .* pip install .hpcnn\[{name}\]'):
        train(tmp_path / "run", "csv", name)
    assert not (tmp_path / "run").exists()
    check_loggers(["csv"])


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()  # W&B leaves one wherever it runs
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingExtraError, match="wandb"):
        check_loggers(["wandb"])


@pytest.mark.parametrize("method", ["open", "log", "finish", "close"])
def test_a_logger_that_fails_is_given_up(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def fail(self: Logger, *_: Any) -> None:
        calls.append(method)
        raise OSError("no space left")

    def close(self: Logger) -> None:
        calls.append("close")
        raise OSError("closed badly")

    right = train(tmp_path / "right")
    monkeypatch.setattr(CsvLogger, "close", close)
    monkeypatch.setattr(CsvLogger, method, fail)
    fitted = train(tmp_path / "run", "csv")
    assert fitted.weights_sha256 == right.weights_sha256
    assert calls == list(dict.fromkeys([method, "close"]))
    out = capsys.readouterr().out
    assert out.count("warning: the logger 'csv' failed (OSError: no space left); training continues without it") == 1
    monkeypatch.undo()
    train(tmp_path / "run", "csv", **{"train.epochs": 5})
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == ["1", "2", "3", "4", "5"]


# ----------------------------------------------------------------------------------- MLflow, W&B: as their packages do


def install(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin=name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


class FakeMlflow:
    """Keeps runs by id, as strict as the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs: dict[str, Any] = {}
        self.experiments: dict[str, str] = {}
        self.uris: list[str] = []
        kinds = {"Metric": lambda *parts: ("metric", *parts), "Param": lambda *parts: ("param", *parts)}
        install(monkeypatch, "mlflow", MlflowClient=self.client)
        install(monkeypatch, "mlflow.entities", **kinds)

    def client(self, tracking_uri: str) -> FakeMlflow:
        self.uris.append(tracking_uri)
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, "7")

    def create_run(self, experiment_id: str, run_name: str, tags: dict[str, str]) -> Any:
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = SimpleNamespace(name=run_name, tags=dict(tags), metrics=[], params={}, status="RUNNING")
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        for _, name, value in params:
            assert self.runs[run_id].params.setdefault(name, value) == value, "parameters can't change"
        for _, name, value, timestamp, step in metrics:
            assert (type(value), type(timestamp), type(step)) == (float, int, int)
            self.runs[run_id].metrics.append((name, value, step))

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status

    set_terminated = update_run

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].tags[key] = value


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    fake = FakeMlflow(monkeypatch)
    with pytest.raises(hpcnn.TrainingStoppedError):
        train(tmp_path, "mlflow", **STOP)
    assert fake.runs["run0"].status == "KILLED"
    assert fake.uris == [(tmp_path / "mlruns").as_uri()]
    fitted = train(tmp_path, "mlflow")
    (run,) = fake.runs.values()
    assert (run.name, run.status, run.tags["weights_sha256"]) == ("signs", "FINISHED", fitted.weights_sha256)
    assert run.params["train.batch_size"] == "10"
    logged = [(step, value) for name, value, step in run.metrics if name == "val_loss"]
    assert logged == [(line["epoch"], line["val_loss"]) for line in lines_of(tmp_path)]


def test_mlflow_starts_a_new_run_on_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, folder = FakeMlflow(monkeypatch), tmp_path / "run"
    for epochs, uri in enumerate(("", "", "http://me:secret@server", "http://me:changed@server"), start=1):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        train(folder, "mlflow", **{"train.epochs": epochs})
        folder = folder.rename(tmp_path / f"moved{epochs}")
        assert "secret" not in (folder / "mlflow.json").read_text()
    logged = [[step for name, _, step in run.metrics if name == "loss"] for run in fake.runs.values()]
    assert logged == [[1, 2], [1, 2, 3, 4]]


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    starts, logged, summary, finished = [], [], {}, []

    def init(**options: Any) -> Any:
        starts.append(options)
        return SimpleNamespace(
            log=lambda values, step: logged.append((step, values)),
            summary=summary,
            finish=lambda: finished.append(True),
        )

    install(monkeypatch, "wandb", init=init, Settings=lambda **settings: settings)
    fitted = train_in_two(tmp_path, "wandb")
    first, second = starts
    assert first["id"] == second["id"]
    assert (first["mode"], first["resume"], first["dir"]) == ("offline", "allow", str(tmp_path))
    assert first["config"]["train.batch_size"] == 10
    assert [step for step, _ in logged] == [1, 2, 3, 4]
    assert [values["loss"] for _, values in logged] == [line["loss"] for line in lines_of(tmp_path)]
    assert summary == {"weights_sha256": fitted.weights_sha256}
    assert len(finished) == 2
    monkeypatch.setenv("WANDB_MODE", "online")
    train(tmp_path, "wandb", **{"train.epochs": 5})
    assert starts[-1]["mode"] == "online"
