"""A run is resumed with the data that it was started with, wherever they are stored; other data are refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.comm.collectives import agree
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.data.content import changes, content_of
from hpcnn.data.files import files_of
from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import Source
from hpcnn.errors import CheckpointError, DataError
from hpcnn.job import data as schema
from hpcnn.runs.inference import evaluate_trained, open_trained
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hpcnn.tools.report.read import read_run
from hpcnn.training.same_data import common_content
from tests.small_jobs import build, make_job

DRAW = np.random.default_rng(4)
X = DRAW.normal(size=(40, 3))
Y = X @ [1.0, -2.0, 0.5]
HELD = 10
"""Rows of the validation files."""
MODEL = {
    "model": {"layers": [{"type": "dense", "units": 1}]},
    "loss": {"name": "mse"},
    "optimizer": {"name": "sgd", "learning_rate": 0.01},
    "train": {"epochs": 2, "batch_size": 10, "shards": 2},
    "run": {"display": "quiet"},
}


def write_csv(path: Path, x: np.ndarray, y: np.ndarray, names: str = "a,b,c,t") -> None:
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header=names, comments="")


@dataclass
class Stopped:
    """A run that was stopped in the midst, and the folder of its data."""

    folder: Path
    data: dict[str, Any]

    def go_on(self, *, accept: bool = False, **changes: Any) -> hpcnn.Fitted:
        job = MODEL | {"data": self.data | changes}
        return hpcnn.fit(job, out=self.folder / "run", resume="auto", accept_changed_data=accept)


def start(folder: Path, data: dict[str, Any]) -> Stopped:
    with pytest.raises(hpcnn.TrainingStoppedError):
        hpcnn.fit(MODEL | {"data": data}, out=folder / "run", overrides={"run.stop_at_step": 3})
    return Stopped(folder, data)


@pytest.fixture
def table(tmp_path: Path) -> Stopped:
    write_csv(tmp_path / "d.csv", X, Y)
    write_csv(tmp_path / "held.csv", X[:HELD], Y[:HELD])
    paths = {"path": str(tmp_path / "d.csv"), "validation_path": str(tmp_path / "held.csv")}
    return start(tmp_path, {"source": "csv", "targets": ["t"], **paths})


CHANGED = [
    ("d.csv", (2 * X, Y), r"training data .*d\.csv.*\): the values of the inputs differ"),
    ("d.csv", (X, Y + 1), r"training data .*d\.csv.*\): the values of the targets differ"),
    ("d.csv", (X, Y, "a,b,z,t"), r"columns only then: 'c'; columns only now: 'z'"),
    ("d.csv", (X[[*range(40), 0, 1]], Y[[*range(40), 0, 1]]),
     r"d\.csv: [\d,]+ bytes then, [\d,]+ bytes now\): 40 rows then, 42 now"),
    ("held.csv", (X[1 : HELD + 1], Y[:HELD]), r"validation data .*held\.csv.*\): the values of the inputs differ"),
    ("held.csv", (X[:7], Y[:7]), r"validation data .*held\.csv: .*\): 10 rows then, 7 now"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "written", "text"), CHANGED)
def test_a_file_that_changed_is_refused(name: str, written: Any, text: str, table: Stopped) -> None:
    write_csv(table.folder / name, *written)
    if "'z'" in text:  # both files have to have the columns alike
        write_csv(table.folder / "held.csv", X[:HELD], Y[:HELD], "a,b,z,t")
    with pytest.raises(CheckpointError, match=text) as caught:
        table.go_on()
    assert caught.value.exit_code == 2
    step = table.folder / "run" / "checkpoints" / "step-0000000003.safetensors"
    assert str(caught.value).endswith(
        f"start a new run, without --resume, from these weights if you like: model.initial_weights={step}"
    )
    fresh = MODEL | {"data": table.data}
    assert hpcnn.fit(fresh, out=table.folder / "new", overrides=[f"model.initial_weights={step}"]).complete


def test_changed_data_are_accepted_on_demand(table: Stopped, capsys: pytest.CaptureFixture[str]) -> None:
    """Other values: the epoch goes on. Other rows: it begins again, with steps that are counted as if it always had."""
    write_csv(table.folder / "d.csv", 2 * X, Y)
    with pytest.raises(hpcnn.TrainingStoppedError):
        hpcnn.fit(
            MODEL | {"data": table.data},
            out=table.folder / "run",
            resume="auto",
            accept_changed_data=True,
            overrides={"run.stop_at_step": 6},
        )
    said = capsys.readouterr().out
    assert "warning: the data changed since the run was started: training data" in said
    assert "The run goes on with them, scaled as before, from step 4 of epoch 1" in said
    write_csv(table.folder / "d.csv", X[:25], Y[:25])
    with pytest.raises(CheckpointError, match=r"40 rows then, 25 now.*go on with --accept-changed-data"):
        table.go_on()
    fitted = table.go_on(accept=True)
    assert "from step 1 of epoch 2" in capsys.readouterr().out
    result = json.loads((table.folder / "run" / "result.json").read_text())
    assert result["steps"] == 6, "two epochs of three steps"
    first, second = result["data_changes"]
    assert first["step"] == second["step"] == 3
    assert "the values of the inputs differ" in first["text"]
    assert "40 rows then, 25 now" in second["text"]
    facts = load_checkpoint(table.folder / "run" / "checkpoints" / "last.safetensors").facts
    assert facts["data_changes"] == result["data_changes"]
    assert facts["data"]["shapes"][0] == [25, 3]
    assert fitted.complete
    assert "data changed after step 3" in read_run(table.folder / "run").environment


def test_accepted_data_are_scaled_as_before(tmp_path: Path) -> None:
    """Else the weights would suddenly be given other inputs."""
    write_csv(tmp_path / "d.csv", X, Y)
    stopped = start(
        tmp_path, {"source": "csv", "targets": ["t"], "path": str(tmp_path / "d.csv"), "scale": "standardize"}
    )
    write_csv(tmp_path / "d.csv", 5 * X, Y)
    stopped.go_on(accept=True)
    model = load_checkpoint(tmp_path / "run" / "model.safetensors").part("scaling")
    assert model["shift"] == pytest.approx(X.mean(axis=0))


def test_a_sample_that_differs_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.data.digests.SAMPLE_BYTES", 256)
    section = schema.Npy(x_path="x.npy", y_path="y.npy")
    one, two = (content_of(Source(ArrayRows(x, mapped=True), ArrayRows(Y, mapped=True))) for x in (X, X + 1))
    assert one is not None
    assert two is not None
    (text,) = changes(one, two, section)
    assert text.endswith("the values of the inputs differ (in the part that is compared where data are large)")


def test_files_are_named_with_their_sizes(tmp_path: Path) -> None:
    for name, size in (("a.csv", 3), ("b.csv", 4), ("train-images-idx3-ubyte.gz", 5), ("x/1.png", 6), ("x/y/2.png", 7)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"0" * size)
    found = {
        section.__struct_config__.tag: [
            (file.setting, Path(file.path).name, file.bytes, file.files) for file in files_of(section, tmp_path)
        ]
        for section in (
            schema.Csv(path="a.csv", targets=["t"], validation_path="none.csv"),
            schema.TextFiles(path="*.csv"),
            schema.Idx(folder="."),
            schema.Images(folder="x"),
            schema.Parquet(path="s3://bucket/a.parquet", targets=["t"]),
        )
    }
    assert found == {
        "csv": [("path", "a.csv", 3, 1)],
        "text": [("path", tmp_path.name, 7, 2)],
        "idx": [("images", "train-images-idx3-ubyte.gz", 5, 1)],
        "images": [("folder", "x", 13, 2)],
        "parquet": [],
    }


def test_columns_may_be_in_another_order(table: Stopped) -> None:
    whole = hpcnn.fit(MODEL | {"data": table.data}, out=table.folder / "whole")
    write_csv(table.folder / "d.csv", np.column_stack([X[:, 1], Y, X[:, 2]]), X[:, 0], "b,t,c,a")
    assert table.go_on().weights_sha256 == whole.weights_sha256


def test_moved_files_of_the_same_content_are_the_same_data(table: Stopped) -> None:
    whole = hpcnn.fit(MODEL | {"data": table.data}, out=table.folder / "whole")
    (table.folder / "elsewhere").mkdir()
    moved = {
        key: str((table.folder / name).rename(table.folder / "elsewhere" / f"other-{name}"))
        for key, name in (("path", "d.csv"), ("validation_path", "held.csv"))
    }
    assert table.go_on(**moved).weights_sha256 == whole.weights_sha256


def test_evaluation_on_the_data_of_the_job_needs_them_unchanged(table: Stopped) -> None:
    """Of other data, samples that the model was trained on might be held out."""
    trained, alone = open_trained(table.folder / "run" / "checkpoints" / "last.safetensors"), SerialCommunicator()
    write_csv(table.folder / "elsewhere.csv", X, Y)
    assert evaluate_trained(trained, alone, None)[:2] == ("validation data", HELD)
    write_csv(table.folder / "d.csv", X[:30], Y[:30])
    with pytest.raises(CheckpointError, match=r"40 rows then, 30 now.*name their file \(--data of evaluate"):
        evaluate_trained(trained, alone, None)
    assert evaluate_trained(trained, alone, str(table.folder / "elsewhere.csv"))[1] == len(X)


def test_validation_data_that_come_or_go_are_refused(table: Stopped) -> None:
    with pytest.raises(CheckpointError, match=r"validation data: 10 rows then, 0 now"):
        table.go_on(validation_path="")


def test_a_run_of_an_older_version_is_resumed(table: Stopped) -> None:
    """It kept nothing of its data; then the files must lie where they lay."""
    for path in (table.folder / "run" / "checkpoints").iterdir():
        kept = load_checkpoint(path)
        save_checkpoint(path, Checkpoint(kept.tensors, {key: kept.facts[key] for key in kept.facts if key != "data"}))
    with pytest.raises(CheckpointError, match=r"data\.validation_path: "):
        table.go_on(validation_path="")
    write_csv(table.folder / "d.csv", 2 * X, Y)
    assert table.go_on().complete


def test_what_computed_data_are_is_in_the_settings() -> None:
    assert build(make_job()).content is None


def test_all_hosts_must_have_the_same_data() -> None:
    def body(comm: ThreadCommunicator, other: int) -> Any:
        x = X + (comm.rank == other)
        comm.local_rank, comm.host = comm.rank % 2, f"node{comm.rank // 2}"
        source = Source(ArrayRows(x), ArrayRows(Y))
        return agree(comm, lambda: common_content(source, schema.Npy(x_path="x.npy", y_path="y.npy"), comm))

    first, *others = run_threads(4, lambda comm: body(comm, 3))  # the second rank of its host: it is not looked at
    assert first == content_of(Source(ArrayRows(X), ArrayRows(Y)))
    assert others == [first] * 3
    text = r"rank 2 on node1 reads other data than rank 0 on node0: training data \(x\.npy, y\.npy\): the values of"
    with pytest.raises(DataError, match=text):
        run_threads(4, lambda comm: body(comm, 2))
