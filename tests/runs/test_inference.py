"""A trained model from its file: evaluated and applied by any number of ranks, to the same bits."""

import resource
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CheckpointError, DataError, HpcnnError
from hpcnn.runs.inference import (
    checkpoint_path,
    evaluate_trained,
    input_loader,
    open_trained,
)
from hpcnn.runs.predictions import check_output, write_predictions
from hpcnn.runs.run_folder import RunFolder
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.small_jobs import make_job, train


@pytest.fixture(scope="module")
def outcome():
    return train(make_job(train={"metrics": ["accuracy", "confusion_matrix"]}))


@pytest.fixture
def path(tmp_path, outcome):
    save_checkpoint(tmp_path / "last.safetensors", outcome.state)
    return tmp_path / "last.safetensors"


def test_the_model_comes_back_whole(path, outcome):
    trained = open_trained(path)
    assert trained.weights_sha256 == trained.model.fingerprint() == outcome.fingerprint
    assert trained.scaling is not None
    assert trained.path == path


def rewrite(path, facts=None, tensors=None):
    """Write a file with other facts or arrays in it, and a hash that is right."""
    good = load_checkpoint(path)
    save_checkpoint(path, Checkpoint({**good.tensors, **(tensors or {})}, {**good.facts, **(facts or {})}))


def with_layers(outcome, layers):
    return {"job": outcome.state.facts["job"] | {"model": {"layers": layers}}}


def test_weights_with_another_sha256_are_refused(path, monkeypatch):
    monkeypatch.setattr(NumpyModel, "fingerprint", lambda self: "0")
    with pytest.raises(CheckpointError, match="the weights do not have the SHA-256 that they were saved with"):
        open_trained(path)


def test_a_model_that_is_not_in_the_file_takes_no_memory(path, outcome):
    """A stranger's job may ask for any size."""
    rewrite(path, with_layers(outcome, [{"type": "dense", "units": 10**10}]))
    with pytest.raises(CheckpointError, match="the parameters are those of another model"):
        open_trained(path)
    rewrite(path, {"job": outcome.state.facts["job"], "input_shape": [2**31]})
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        open_trained(path)


def test_a_model_of_layers_within_layers_without_end(path, outcome):
    layers = [{"type": "dense", "units": 5}]
    for _ in range(60):
        layers = [{"type": "residual", "layers": layers}]
    rewrite(path, with_layers(outcome, layers))
    with pytest.raises(CheckpointError, match="its facts can't be read"):
        open_trained(path)


def test_code_that_a_file_names_is_run_only_if_it_is_named_to_us_too(path, outcome, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_model.py").write_text("raise SystemExit('it ran')\n")
    job = outcome.state.facts["job"]
    rewrite(path, {"job": job | {"model": {"entry": "evil_model:build"}}})
    with pytest.raises(CheckpointError, match=r"the function 'evil_model:build'.* name it: --entry evil_model:build"):
        open_trained(path)
    with pytest.raises(CheckpointError, match="name it: --entry evil_model:build"):
        open_trained(path, "other:build")
    with pytest.raises(HpcnnError, match="it ran"):
        open_trained(path, "evil_model:build")
    rewrite(path, {"job": job})
    with pytest.raises(CheckpointError, match=r"--entry evil_model:build, but no Python function builds"):
        open_trained(path, "evil_model:build")


def test_a_scaling_of_other_names(path):
    rewrite(path, tensors={"scaling/more": np.zeros(3)})
    with pytest.raises(CheckpointError, match="scaling has more, scale, shift in place of shift and scale"):
        open_trained(path)


@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
def test_evaluation_gives_the_bits_of_the_last_epoch(path, outcome, ranks):
    def body(comm):
        return evaluate_trained(open_trained(path), comm, None)

    expected = {name[4:]: value for name, value in outcome.reports[-1].values.items() if name.startswith("val_")}
    for what, samples, values in run_threads(ranks, body):
        assert (what, samples) == ("validation data", 7)
        assert values.keys() == expected.keys()
        for name, value in values.items():
            assert np.asarray(value).tobytes() == np.asarray(expected[name]).tobytes(), name


def test_without_validation_data_the_training_data_is_evaluated(tmp_path):
    state = train(make_job(data={"validation_fraction": 0.0})).state
    save_checkpoint(tmp_path / "file", state)
    what, samples, _ = evaluate_trained(open_trained(tmp_path / "file"), SerialCommunicator(), None)
    assert what.startswith("training data")
    assert samples == 37


@pytest.fixture
def inputs(tmp_path):
    """Rows that are not scaled, and the outputs for them by hand."""
    rows = np.random.default_rng(0).normal(3, 2, (20, 5))
    np.save(tmp_path / "rows.npy", rows)
    return tmp_path / "rows.npy", rows


@pytest.mark.parametrize("ranks", [1, 2, 5, 8])
def test_predictions_are_in_order_and_the_same_bits_on_any_number_of_ranks(tmp_path, path, inputs, ranks):
    source, rows = inputs
    out = tmp_path / "outputs.npy"

    def body(comm):
        trained = open_trained(path)
        return write_predictions(trained, comm, input_loader(trained, comm, str(source)), out)

    assert run_threads(ranks, body) == [{out: (20, 3)}] * ranks
    outputs, trained = np.load(out), open_trained(path)
    assert outputs.dtype == np.float32
    scaled = ((rows - trained.scaling.shift) * trained.scaling.scale).astype(np.float32)
    pieces = [trained.model.predict_piece(scaled[i : i + 3]).copy() for i in range(0, 20, 3)]
    assert outputs.tobytes() == np.concatenate(pieces).tobytes()


@pytest.mark.parametrize(
    ("name", "text"), [("out.txt", r"be a \.npy file, or a \.csv"), ("no/out.npy", "there is no folder")]
)
def test_an_output_that_can_not_be_written_is_told_beforehand(tmp_path, name, text):
    with pytest.raises(DataError, match=text):
        check_output(tmp_path / name, writes=True)
    check_output(tmp_path / "out.npy", writes=True)


@pytest.fixture
def full_disk():
    """Let no file of this process become longer than 100 bytes within `with`."""

    @contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.mark.parametrize("name", ["out.npy", "out.csv"])
@pytest.mark.parametrize("rows", [20, 1500], ids=["at the end", "before"])
def test_an_output_that_becomes_too_large_for_its_disk(tmp_path, path, full_disk, name, rows):
    np.save(tmp_path / "rows.npy", np.zeros((rows, 5)))
    (tmp_path / name).write_text("old")
    trained, comm = open_trained(path), SerialCommunicator()
    loader = input_loader(trained, comm, str(tmp_path / "rows.npy"))
    words = rf"can't write '.*{name}' \(File too large\)\. Give another file by -o"
    with full_disk(), pytest.raises(DataError, match=words):
        write_predictions(trained, comm, loader, tmp_path / name)
    assert (tmp_path / name).read_text() == "old"
    assert not [*tmp_path.glob(".*")]


def filled(tmp_path, *names):
    folder = RunFolder(tmp_path / "run")
    for name in names:
        getattr(folder, name).parent.mkdir(parents=True, exist_ok=True)
        getattr(folder, name).touch()
    return folder


@pytest.mark.parametrize(("there", "which", "chosen"), [
    (("model", "best", "last"), "", "model"), (("best", "last"), "", "best"), (("last",), "", "last"),
    (("model", "best", "last"), "last", "last"), (("model", "best", "last"), "best", "best"),
])  # fmt: skip
def test_which_file_of_a_run(tmp_path, there, which, chosen):
    folder = filled(tmp_path, *there)
    assert checkpoint_path(folder.path, which) == getattr(folder, chosen)
    assert checkpoint_path(getattr(folder, chosen)) == getattr(folder, chosen)


def test_a_run_without_such_a_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no run .*Give the folder of a run"):
        checkpoint_path(tmp_path / "missing")
    folder = filled(tmp_path, "last")
    with pytest.raises(CheckpointError, match=r"holds none of: checkpoints/best\.safetensors\. Has it reached"):
        checkpoint_path(folder.path, "best")
    folder.last.unlink()
    with pytest.raises(CheckpointError, match=r"holds none of: model\.safetensors, checkpoints/best.*, checkpoints/la"):
        checkpoint_path(Path(folder.path))
