"""From a file with words and gaps to predictions in words, with the same bits on any number of ranks."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import hpcnn
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.data.readers.csv import CsvReader
from hpcnn.data.tables.recipe import Recipe
from hpcnn.errors import CheckpointError, DataError, HpcnnError
from hpcnn.job.load import load_job
from hpcnn.runs.answers import answers_of, words_of_matrices
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained
from hpcnn.runs.predictions import write_predictions
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.require import require
from tests.small_jobs import train
from tests.tables import Columns, flowers, houses, passengers, write_csv

COMM = SerialCommunicator()
PASSENGERS = """
data = { source = "csv", path = "passengers.csv", targets = ["survived"], exclude = ["id", "name"], \
missing = "indicator", validation_fraction = 0.2, scale = "standardize", columns = { pclass = { kind = "category" } } }
loss = { name = "binary_crossentropy" }
optimizer = { name = "adam", learning_rate = 0.02 }
train = { epochs = 8, batch_size = 90, shards = 8, metrics = ["accuracy", "confusion_matrix"] }
[model]
layers = [
  { type = "dense", units = 12, activation = "relu" },
  { type = "dense", units = 1, activation = "sigmoid" },
]
"""
HOUSES = """
data = { source = "csv", path = "houses.csv", targets = ["price"], missing = "median", scale = "standardize", \
columns = { quality = { order = ["poor", "fair", "good", "excellent"] } } }
model = { layers = [{ type = "dense", units = 1 }] }
loss = { name = "mae" }
optimizer = { name = "adam", learning_rate = 3000.0 }
train = { epochs = 20, batch_size = 50, shards = 8, metrics = ["r2"] }
"""
FLOWERS = """
data = { source = "csv", path = "flowers.csv", targets = ["species"], scale = "standardize" }
model = { layers = [{ type = "dense", units = 3, activation = "softmax" }] }
loss = { name = "sparse_categorical_crossentropy" }
optimizer = { name = "adam", learning_rate = 0.1 }
train = { epochs = 20, batch_size = 50, shards = 8, metrics = ["accuracy"] }
"""
JOBS = {"passengers": (PASSENGERS, passengers), "houses": (HOUSES, houses), "flowers": (FLOWERS, flowers)}


def trained_on(folder: Path, name: str) -> Path:
    """Return the model of a table of `JOBS`, trained in `folder`."""
    text, columns = JOBS[name]
    write_csv(folder / f"{name}.csv", columns())
    (folder / "job.toml").write_text(text)
    save_checkpoint(folder / "model.safetensors", train(job_in(folder)).state)
    return folder / "model.safetensors"


def job_in(folder: Path, **data: Any) -> Any:
    """Return the job of a folder, with paths that hold anywhere; `data` replaces settings of its data."""
    job = load_job(folder / "job.toml").job
    data = {"path": str(folder / job.data.path), **data}
    return msgspec.structs.replace(job, data=msgspec.structs.replace(job.data, **data))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: trained_on(tmp_path_factory.mktemp(name), name) for name in JOBS}


def predicted(model: Path, file: Path, out: Path) -> list[dict[str, str]]:
    """Return the predictions for a file as a table."""
    trained = open_trained(model)
    write_predictions(trained, COMM, input_loader(trained, COMM, str(file)), out)
    with out.open(newline="") as table:
        return [*csv.DictReader(table)]


def without(columns: Columns, *names: str) -> Columns:
    return {name: values for name, values in columns.items() if name not in names}


def test_each_job_is_short() -> None:
    assert all(len(text.strip().splitlines()) <= 15 for text, _ in JOBS.values())


def test_passengers_are_predicted_in_words(runs: dict[str, Path], tmp_path: Path) -> None:
    columns = passengers()
    file = write_csv(
        tmp_path / "new.csv", without(columns, "survived", "id", "name"), ["port", "sex", "age", "pclass", "fare"]
    )
    rows = predicted(runs["passengers"], file, tmp_path / "out.csv")
    assert [*rows[0]] == ["survived", "survived=no", "survived=yes"]
    assert all(float(row["survived=no"]) + float(row["survived=yes"]) == pytest.approx(1, abs=1e-6) for row in rows)
    right = np.mean([row["survived"] == given for row, given in zip(rows, columns["survived"], strict=True)])
    assert right > 0.75
    assert predicted(runs["passengers"], write_csv(tmp_path / "all.csv", columns), tmp_path / "out.csv") == rows


def test_what_became_of_the_passengers(runs: dict[str, Path]) -> None:
    recipe = open_trained(runs["passengers"]).recipe
    assert recipe is not None
    assert recipe.features == (
        "age", "age.missing", "fare", "pclass=1", "pclass=2", "pclass=3", "port=Cherbourg", "port=Queenstown",
        "port=Southampton", "port.missing", "sex=female", "sex=male",
    )  # fmt: skip
    assert recipe.words() == ("no", "yes")
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) == recipe


def test_a_confusion_matrix_has_the_words(runs: dict[str, Path]) -> None:
    trained = open_trained(runs["passengers"])
    values = evaluate_trained(trained, COMM, None)[2]
    assert words_of_matrices(trained, values) == {"confusion_matrix": ("no", "yes")}
    assert values["accuracy"] > 0.7


def test_houses_have_prices(runs: dict[str, Path], tmp_path: Path) -> None:
    columns = houses()
    rows = predicted(runs["houses"], write_csv(tmp_path / "new.csv", without(columns, "price")), tmp_path / "out.csv")
    assert [*rows[0]] == ["price"]
    assert np.corrcoef([float(row["price"]) for row in rows], columns["price"])[0, 1] > 0.9
    features = answers_features(runs["houses"])
    assert features[:2] == ("area", "built")
    assert features[-6:] == (
        "quality",
        "sold.years",
        "sold.weekday_sin",
        "sold.weekday_cos",
        "sold.yearday_sin",
        "sold.yearday_cos",
    )


def answers_features(model: Path) -> tuple[str, ...]:
    recipe = open_trained(model).recipe
    assert recipe is not None
    return recipe.features


def test_flowers_have_names(runs: dict[str, Path], tmp_path: Path) -> None:
    columns = flowers()
    rows = predicted(runs["flowers"], write_csv(tmp_path / "d.csv", columns), tmp_path / "out.csv")
    assert [*rows[0]] == ["species", "species=setosa", "species=versicolor", "species=virginica"]
    assert np.mean([row["species"] == given for row, given in zip(rows, columns["species"], strict=True)]) > 0.9
    assert answers_of(open_trained(runs["flowers"]))[""].worded


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_any_number_of_ranks(ranks: int, runs: dict[str, Path]) -> None:
    for name in JOBS if ranks == 3 else ["passengers"]:
        folder = runs[name].parent
        facts = load_checkpoint(runs[name]).facts
        outcome = train(job_in(folder), ranks)
        assert outcome.fingerprint == facts["weights_sha256"]
        assert outcome.state.facts["recipe"] == facts["recipe"]


def test_stopped_and_gone_on_with_on_another_number_of_ranks(runs: dict[str, Path]) -> None:
    job = job_in(runs["passengers"].parent)
    stopped = train(job, 3, stop_at=13)
    assert not stopped.done
    outcome = train(job, 2, start=stopped.state)
    assert outcome.fingerprint == load_checkpoint(runs["passengers"]).facts["weights_sha256"]


def test_predictions_on_ranks(runs: dict[str, Path], tmp_path: Path) -> None:
    file = write_csv(tmp_path / "d.csv", passengers())
    first = predicted(runs["passengers"], file, tmp_path / "out.csv")
    whole = (tmp_path / "out.csv").read_bytes()

    def body(comm: Any) -> None:
        trained = open_trained(runs["passengers"])
        write_predictions(trained, comm, input_loader(trained, comm, str(file)), tmp_path / "ranks.csv")

    run_threads(3, body)
    assert (tmp_path / "ranks.csv").read_bytes() == whole
    assert len(first) == 900


def test_the_order_of_columns_does_not_matter(runs: dict[str, Path], tmp_path: Path) -> None:
    folder, columns = runs["passengers"].parent, passengers()
    sha256 = load_checkpoint(runs["passengers"]).facts["weights_sha256"]
    file = write_csv(tmp_path / "d.csv", columns, [*reversed(columns)])
    assert train(job_in(folder, path=str(file))).fingerprint == sha256


def test_a_parquet_file_gives_the_same_weights(runs: dict[str, Path], tmp_path: Path) -> None:
    pyarrow, parquet = require("pyarrow"), require("pyarrow.parquet")
    for name in ("passengers", "houses"):
        _, columns = JOBS[name]
        table = columns()
        if name == "houses":
            table["sold"] = np.array(table["sold"], "M8[D]")  # type: ignore[assignment]
            table["garage"] = [one == "true" for one in table["garage"]]
        parquet.write_table(pyarrow.table(table), tmp_path / f"{name}.parquet")
        text = JOBS[name][0].replace('source = "csv"', 'source = "parquet"').replace(".csv", ".parquet")
        (tmp_path / "job.toml").write_text(text)
        assert train(job_in(tmp_path)).fingerprint == load_checkpoint(runs[name]).facts["weights_sha256"]


def test_words_that_the_training_did_not_have(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = passengers()
    columns["port"][0] = columns["port"][5] = "Belfast"
    predicted(runs["passengers"], write_csv(tmp_path / "d.csv", columns), tmp_path / "out.csv")
    text = "column 'port' has 2 values that no row of the training has, as 'Belfast': all columns of its words are 0."
    assert text in capsys.readouterr().err


def changed(name: str, **changes: Any) -> Columns:
    return {**JOBS[name][1](), **changes}


REFUSED = {
    "a missing column": ("passengers", {"sex": None}, "lacks 'sex'"),
    "an unknown column": ("passengers", {"deck": ["a"] * 900}, "has 'deck', which the model was not trained on"),
    "words for numbers": ("passengers", {"fare": ["dear"] * 900}, r"column 'fare' holds words, as 'dear', but numbers"),
    "an unknown word of an order": (
        "houses",
        {"quality": ["so so"] * 400},
        r"'quality' holds 'so so', which its order l",
    ),
    "words for dates": (
        "houses",
        {"sold": ["May"] * 400},
        r"column 'sold' holds words, as 'May', but dates are needed",
    ),
    "no value": ("flowers", {"petal_width": [None, *flowers()["petal_width"][1:]]}, "1 value of 150 that is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_other_files(case: str, runs: dict[str, Path], tmp_path: Path) -> None:
    name, changes, text = REFUSED[case]
    columns = {key: values for key, values in changed(name, **changes).items() if values is not None}
    with pytest.raises(DataError, match=text):
        predicted(runs[name], write_csv(tmp_path / "d.csv", columns), tmp_path / "out.csv")


def test_an_unknown_class(runs: dict[str, Path], tmp_path: Path) -> None:
    columns = flowers()
    columns["species"][4] = "rosa"
    file = write_csv(tmp_path / "d.csv", columns)
    with pytest.raises(
        DataError, match=r"'rosa' in row 4, counted from 0, is none of the classes of 'species' in the t"
    ):
        evaluate_trained(open_trained(runs["flowers"]), COMM, str(file))


UNFIT = {
    "numbers expected": (
        {"loss.name": "mse"},
        r"the target 'species' is words, 'setosa', .*the loss 'mse' takes numbers",
    ),
    "too few outputs": (
        {"model.layers.0.units": 2},
        "'species' has 3 classes, .* but the model has 2 outputs. Give its l",
    ),
    "one output": (
        {"model.layers.0.units": 1, "model.layers.0.activation": "sigmoid", "loss.name": "binary_crossentropy"},
        "has 3 classes, .* but the model has 1 outputs. Let its last layer have 3 units, with softmax",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_targets_in_words_that_do_not_suit_the_model(case: str, runs: dict[str, Path], tmp_path: Path) -> None:
    overrides, text = UNFIT[case]
    if "loss.name" in overrides:
        overrides = {**overrides, "train.metrics": []}
    if overrides["loss.name"] == "mse" if "loss.name" in overrides else False:
        overrides = {**overrides, "model.layers.0.activation": "linear"}
    with pytest.raises(DataError, match=text):
        hpcnn.fit(runs["flowers"].parent / "job.toml", out=tmp_path / "run", overrides=overrides)


def test_a_recipe_that_does_not_fit_its_network(runs: dict[str, Path], tmp_path: Path) -> None:
    kept = load_checkpoint(runs["flowers"])
    facts = json.loads(json.dumps(kept.facts))
    facts["recipe"]["columns"].pop()
    save_checkpoint(tmp_path / "bad.safetensors", Checkpoint(kept.tensors, facts))
    with pytest.raises(CheckpointError, match="columns make 1 features, but its network takes 2"):
        open_trained(tmp_path / "bad.safetensors")
    facts["recipe"]["columns"][0]["fill"] = "x"
    save_checkpoint(tmp_path / "bad.safetensors", Checkpoint(kept.tensors, facts))
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        open_trained(tmp_path / "bad.safetensors")


def test_categories_feed_an_embedding(tmp_path: Path) -> None:
    write_csv(tmp_path / "passengers.csv", passengers())
    job: dict[str, Any] = {
        "data": {
            "source": "csv", "path": str(tmp_path / "passengers.csv"), "targets": ["survived"], "missing": "mean",
            "categories": "integer", "scale": "minmax",
            "inputs": {"numbers": ["age", "fare"], "port": ["port"]},
        },
        "model": {"layers": [
            {"type": "embedding", "input_dim": 4, "output_dim": 3, "inputs": ["port"], "name": "places"},
            {"type": "flatten", "name": "place"},
            {"type": "concatenate", "inputs": ["numbers", "place"]},
            {"type": "dense", "units": 2, "activation": "softmax"},
        ]},
        "loss": {"name": "sparse_categorical_crossentropy"},
        "train": {"epochs": 1},
    }  # fmt: skip
    fitted = hpcnn.fit(job, out=tmp_path / "run")
    assert fitted.trained.job.model.inputs == {"numbers": [2], "port": [1]}
    rows = predicted(fitted.trained.path, tmp_path / "passengers.csv", tmp_path / "out.csv")
    assert {row["survived"] for row in rows} <= {"no", "yes"}


def test_tables_in_python(runs: dict[str, Path], tmp_path: Path) -> None:
    pandas = require("pandas")
    table = pandas.DataFrame(without(passengers(), "id", "name"))
    x, y = table.drop(columns="survived"), table["survived"]
    x = x[sorted(x.columns)]
    job = {"data": {"missing": "indicator", "scale": "standardize", "columns": {"pclass": {"kind": "category"}},
                    "validation_fraction": 0.2}}  # fmt: skip
    sections = msgspec.to_builtins(load_job(runs["passengers"].parent / "job.toml").job)
    fitted = hpcnn.fit({**sections, **job}, (x, y), out=tmp_path / "run")
    assert fitted.weights_sha256 == load_checkpoint(runs["passengers"]).facts["weights_sha256"]
    labels = fitted.predict_labels(x[[*reversed(x.columns)]])
    assert set(labels) == {"no", "yes"}
    assert np.mean(labels == y.to_numpy()) > 0.7
    assert hpcnn.load(tmp_path / "run").predict_labels(x).tolist() == labels.tolist()
    assert fitted.evaluate(x, y)["accuracy"] == pytest.approx(np.mean(labels == y.to_numpy()))
    with pytest.raises(DataError, match="x lacks 'sex'"):
        fitted.predict(x.drop(columns="sex"))


def test_labels_of_numbers(runs: dict[str, Path]) -> None:
    table = require("pandas").DataFrame(without(houses(), "price"))
    with pytest.raises(DataError, match="the model predicts numbers"):
        hpcnn.load(runs["houses"]).predict_labels(table)


def test_a_run_that_began_with_the_order_of_the_file(runs: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    columns = flowers()
    names = ["species", "petal_width", "petal_length"]
    path = write_csv(tmp_path / "d.csv", columns, names)
    job = {"data": {"source": "csv", "path": str(path), "targets": ["species"]},
           "model": {"layers": [{"type": "dense", "units": 3, "activation": "softmax"}]},
           "loss": {"name": "sparse_categorical_crossentropy"}, "train": {"epochs": 3}}  # fmt: skip
    as_listed = {**job, "data": {**job["data"], "inputs": names[1:]}}  # type: ignore[dict-item]
    whole = hpcnn.fit(as_listed, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        old = CsvReader.load
        patch.setattr(
            CsvReader, "load", lambda self, path, data: old(self, path, msgspec.structs.replace(data, inputs=names[1:]))
        )
        with pytest.raises(HpcnnError):
            hpcnn.fit(job, out=tmp_path / "run", overrides={"run.stop_at_step": 4})
    assert hpcnn.fit(job, out=tmp_path / "run", resume="auto").weights_sha256 == whole.weights_sha256
