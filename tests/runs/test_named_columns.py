"""What a model learned from named columns, it applies to columns of those names, wherever they stand in a file."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data import content
from hpcnn.data.columns import Columns
from hpcnn.data.other_files import order_note
from hpcnn.errors import CheckpointError, DataError
from hpcnn.job import data as schema
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained
from hpcnn.runs.predictions import write_predictions
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hpcnn.tools.explain.inputs import chosen_inputs, chosen_samples
from tests.small_jobs import make_job, train

ROWS = np.random.default_rng(0).normal(size=(24, 2))
COMM = SerialCommunicator()


def write(path, names):
    """Write the columns a, b and y, which is a."""
    columns = {"a": ROWS[:, 0], "b": ROWS[:, 1], "y": ROWS[:, 0], "id": np.arange(24.0)}
    lines = zip(*(columns[name] for name in names), strict=True)
    path.write_text("\n".join([",".join(names), *(",".join(map(repr, map(float, line))) for line in lines)]))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a checkpoint of a model that was trained on a, b to give a."""
    folder = tmp_path_factory.mktemp("named")
    job = make_job(
        data={"source": "csv", "path": write(folder / "d.csv", "aby"), "targets": [-1], "scale": "standardize"},
        model={"layers": [{"type": "dense", "units": 1}]},
        loss={"name": "mse"},
        train={"epochs": 60, "metrics": []},
    )
    save_checkpoint(folder / "last.safetensors", train(job).state)
    return folder / "last.safetensors"


def predictions(path, file, tmp_path):
    trained = open_trained(path)
    write_predictions(trained, COMM, input_loader(trained, COMM, file), tmp_path / "out.npy")
    return np.load(tmp_path / "out.npy")


@pytest.mark.parametrize("names", ["ba", "bay", "yab"])
def test_predictions_and_values_are_those_of_the_names(run, names, tmp_path):
    trained = open_trained(run)
    assert trained.columns == Columns(("a", "b"), ("y",))
    as_trained = predictions(run, write(tmp_path / "as_trained.csv", "ab"), tmp_path)
    file = write(tmp_path / "other.csv", names)
    assert predictions(run, file, tmp_path).tobytes() == as_trained.tobytes()
    np.testing.assert_allclose(as_trained[:, 0], ROWS[:, 0], atol=0.1)
    if "y" in names:
        _, _, values = evaluate_trained(trained, COMM, file)
        assert values == evaluate_trained(trained, COMM, None)[2]


def test_other_names_are_refused_by_both(run, tmp_path):
    trained, file = open_trained(run), write(tmp_path / "other.csv", ["a", "id", "y"])
    text = r"other\.csv lacks 'b' and has 'id', which the model was not trained on.*: 'a', 'b'\. The targets"
    with pytest.raises(DataError, match=text):
        evaluate_trained(trained, COMM, file)
    with pytest.raises(DataError, match=text):
        input_loader(trained, COMM, file)


def test_the_job_s_own_file_may_have_its_columns_in_another_order(run):
    trained = open_trained(run)
    path = Path(trained.job.data.path)
    original, expected = path.read_text(), evaluate_trained(trained, COMM, None)
    try:
        write(path, "bay")
        assert evaluate_trained(trained, COMM, None) == expected
    finally:
        path.write_text(original)


def test_what_is_explained_has_the_names_of_the_model(run, tmp_path):
    trained, file = open_trained(run), write(tmp_path / "other.csv", "bya")
    chosen, x = chosen_inputs(trained, COMM, file, slice(None))
    assert chosen.names == ("a", "b")
    np.testing.assert_allclose(x * 1 / trained.scaling.scale + trained.scaling.shift, ROWS, rtol=1e-5, atol=1e-5)
    assert chosen_samples(trained, COMM, file, slice(None))[0].names == ("a", "b")
    assert chosen_inputs(trained, COMM, None, slice(None))[0].names == ("a", "b")


def rewritten(run, path, **facts):
    kept = load_checkpoint(run)
    save_checkpoint(path, Checkpoint(kept.tensors, {**kept.facts, "data": {**kept.facts["data"], **facts}}))
    return path


@pytest.fixture
def old(run, tmp_path):
    """Return the checkpoint as a version wrote it that kept nothing of the data."""
    kept = load_checkpoint(run)
    kept.facts.pop("data")
    path = tmp_path / "old.safetensors"
    save_checkpoint(path, Checkpoint(kept.tensors, kept.facts))
    return path


def test_data_that_nothing_was_kept_of_are_not_hashed(run, old, monkeypatch):
    expected = evaluate_trained(open_trained(run), COMM, None)
    hashed = []
    monkeypatch.setattr(content, "digests", lambda *_: hashed.append(1))
    assert evaluate_trained(open_trained(old), COMM, None) == expected
    assert not hashed


def test_a_file_of_before_goes_by_position(run, old, tmp_path):
    assert open_trained(old).columns is None
    new = predictions(run, write(tmp_path / "ab.csv", "ab"), tmp_path)
    assert predictions(old, write(tmp_path / "aby.csv", "aby"), tmp_path).tobytes() == new.tobytes()
    np.save(tmp_path / "x.npy", ROWS)  # has no names
    assert predictions(run, str(tmp_path / "x.npy"), tmp_path).tobytes() == new.tobytes()


def test_a_file_of_before_warns_that_names_mean_nothing(run, old, tmp_path, capsys, monkeypatch):
    def warnings(command, *arguments):
        module = import_module(f"hpcnn.{command}")
        monkeypatch.setattr(module, "run_parallel", lambda body: body(COMM))
        assert module.main([*map(str, arguments)]) == 0
        return [line for line in "".join(capsys.readouterr()).splitlines() if line.startswith("warning: ")]

    table, out = write(tmp_path / "aby.csv", "aby"), ("-o", tmp_path / "out.npy")
    for found in (warnings("evaluate", old, "--data", table), warnings("predict", old, table, *out)):
        assert len(found) == 1
        assert f"the columns of {table} are used in order, regardless of their names" in found[0]
    np.save(tmp_path / "x.npy", ROWS)
    assert not warnings("predict", old, tmp_path / "x.npy", *out)
    assert not warnings("evaluate", old)
    assert not warnings("evaluate", run, "--data", table)


BY_NAME, OF_PARQUET = schema.Csv(path="-", targets=["y"]), schema.Parquet(path="-", targets=["y"])


@pytest.mark.parametrize(("data", "name", "warns"), [
    (BY_NAME, "d.csv", True),
    (BY_NAME, "d.tsv", True),
    (BY_NAME, "folder", False),
    (BY_NAME, "x.npy,y.npy", False),
    (schema.Csv(path="-", targets=[-1], header=False), "d.csv", False),
    (OF_PARQUET, "d.csv", True),
    (OF_PARQUET, "numbers.csv", False),
    (OF_PARQUET, "d.parquet", True),
    (schema.Digits(), "d.csv", False),
])  # fmt: skip
def test_where_names_mean_nothing(data, name, warns, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "d.csv").write_text("a,b\n1,2\n")
    (tmp_path / "numbers.csv").write_text("1,2\n1,2\n")
    assert len(order_note(name, data, tmp_path)) == warns


@pytest.mark.parametrize("names", [{"names": 3}, {"names": [1, 2]}, {"target_names": "y"}, {"target_names": None}])
def test_names_in_a_damaged_file(run, names, tmp_path):
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        open_trained(rewritten(run, tmp_path / "bad.safetensors", **names))
