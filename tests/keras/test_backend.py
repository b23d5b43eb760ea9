"""What chooses and builds the Keras model: users' functions and their faults, missing packages, weights that travel."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcnn.backends.choice import choose_backend
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import HpcnnError, JobError, MissingExtraError, ModelError
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_spec, build_training
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained, predict
from hpcnn.runs.session import train
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.training.step_stats import STOP
from tests.keras.modes import both_replicas, keras_backend
from tests.nn.helpers import normal
from tests.small_jobs import make_job

USERS = "tests.keras.models_of_users"
COMM = SerialCommunicator()


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


def job_of(entry: str, **changes):
    return make_job(model={"layers": None, "entry": f"{USERS}:{entry}"}, **changes)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("not_built", r"returned a model that is not built, .*: begin it with keras.Input\(input_shape\), or call it"),
        ("not_quite_built", "returned a model that is not built"),
        ("no_model", "must return a keras.Model, but returned int"),
        ("other_shape", r"returned a model for samples of shape \(99,\), but was asked for \(5,\)"),
        ("two_inputs", "returned a model of 2 inputs, but a sample is one array"),
        ("two_outputs", "the model must return one tensor, but returns list"),
        (
            "other_dtype",
            r"the variable 'sequential/dense/kernel' is float64, but train.dtype is float32. Leave the dtype",
        ),
        ("mixed", r"the model returns bfloat16, but train.dtype is float32. Give the last layer"),
        ("constrained", "the variable 'sequential/dense/kernel' has a constraint"),
        ("odd_penalty", r"has the regularizer OrthogonalRegularizer. Known: L1, L2, L1L2"),
        ("own_loss", r"the model adds losses of its own \(an activity regularizer, or add_loss\)"),
        ("global_noise", "the model draws random numbers from Keras's global generator"),
        ("broken", r"the model can't be called on samples of shape \(5,\): RuntimeError: .*out of order"),
    ],
)
def test_what_is_wrong_with_a_users_model_is_said_once(backend, entry: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"model.entry '{USERS}:{entry}'.*") as caught:
        build_spec(job_of(entry), (5,), backend)
    assert re.search(message, str(caught.value), re.DOTALL)


@pytest.mark.parametrize(
    ("options", "ending"),
    [
        ({}, "linear"),
        ({"use_bias": False}, "linear"),
        ({"after": "reshape"}, "linear"),
        ({"last": "relu"}, "relu"),
        ({"last": "tanh"}, "tanh"),
        ({"last": "log_softmax"}, "log_softmax"),
        ({"last": "sigmoid"}, "sigmoid"),
        ({"last": "softmax"}, "softmax"),
        ({"last": "softmax", "after": "reshape"}, "softmax"),
        ({"last": "softplus"}, "softplus"),
        ({"after": "shares"}, None),  # what it computes is for the user to know
        ({"last": "softmax", "after": "confusions"}, None),
        ({"after": "confusions"}, "linear"),
        ({"last": "relu", "after": "dense"}, "linear"),
    ],
    ids=str,
)
def test_what_a_users_model_ends_in(backend, options: dict, ending: str | None) -> None:
    job = make_job(model={"layers": None, "entry": f"{USERS}:ending_in", "options": options})
    assert build_spec(job, (5,), backend).network.ending == ending
    if ending in (None, "sigmoid", "softmax", "softplus"):
        build_training(job, Path(), COMM, backend)
        return
    with pytest.raises(JobError, match=rf'activation = "{ending}", whose outputs are not probabilities\. End it in'):
        build_training(job, Path(), COMM, backend)


def test_a_mixture_of_experts_may_end_in_probabilities(backend) -> None:
    training = build_training(job_of("mixture"), Path(), COMM, backend)
    assert training.spec.network.ending is None


def test_several_labels_a_sample_in_both_modes(backend) -> None:
    layers = [{"type": "dense", "units": 3, "activation": "sigmoid"}]
    names = ["accuracy", "binary_accuracy", "precision", "recall", "f1"]
    job = make_job(model={"layers": layers}, loss={"name": "binary_crossentropy"}, train={"metrics": names})
    ours, theirs = both_replicas(job, (5,), backend)
    x, y = normal(40, 5).astype(np.float32), (normal(40, 3) > 0).astype(np.float32)
    np.testing.assert_array_equal(ours.model.eval_piece(x, y)[STOP + 1 :], theirs.model.eval_piece(x, y)[STOP + 1 :])
    assert all(metric.multilabel for metric in theirs.model.layout.metrics)


def test_a_keras_model_in_numpy_mode(backend) -> None:
    with pytest.raises(ModelError, match=r'but returned Sequential: a model of Keras, which needs backend = "keras"'):
        build_spec(job_of("wide"), (5,), NUMPY)


def test_a_network_of_hpcnn_in_keras_mode(backend) -> None:
    ours, theirs = (build_spec(job_of("of_hpcnn"), (5,), each) for each in (NUMPY, backend))
    assert ours.network.layout.offsets == theirs.network.layout.offsets == {"out/kernel": 0, "out/bias": 15}


@pytest.mark.parametrize("entry", ["wide", "subclass", "normalized"])
def test_names_and_start_of_a_users_model_follow_from_the_job(backend, entry: str) -> None:
    def start(seed: int):
        training = build_training(job_of(entry, train={"seed": seed}), Path(), COMM, backend)
        return training.replica.weights(), training.replica.model.fingerprint()

    (weights, first), (_, second), (_, other) = start(1), start(1), start(2)
    assert first == second != other
    assert len({name.rpartition("/")[0] for name in weights}) > 1 or entry == "subclass"
    for name, array in weights.items():
        if name.endswith("kernel"):
            assert array.std() > 0.1


def test_penalties_and_state_of_a_users_model(backend) -> None:
    model = build_spec(job_of("normalized"), (5,), backend)
    layout = model.network.layout
    assert {spec.name: spec.l2 for spec in layout.penalized} == {"sequential/dense/kernel": 0.01}
    frozen = [spec.name for spec in layout.specs if not spec.trainable]
    normalization = "sequential/batch_normalization"
    assert frozen == [f"{normalization}/moving_mean", f"{normalization}/moving_variance"]
    assert model.stats_length == model.layout.size + 2 * 16
    assert model.network.seeds == 2


# ------------------------------------------------------------------------------------------------------ what is missing


@pytest.mark.parametrize("package", ["tensorflow", "keras"])
def test_no_tensorflow(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'backend = "keras" needs the package \'{package}\', which is not installed.*hpcnn\[keras\]'
    with pytest.raises(MissingExtraError, match=message):
        choose_backend(COMM)(make_job_with_backend())


def test_keras_on_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(HpcnnError, match="but Keras is set to 'torch': leave KERAS_BACKEND unset"):
        choose_backend(COMM)(make_job_with_backend())


def test_keras_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.__version__", "2.15.0")
    with pytest.raises(HpcnnError, match=r"needs Keras 3, but found 2.15.0"):
        choose_backend(COMM)(make_job_with_backend())


def make_job_with_backend():
    return load_job(overrides=["backend=keras"]).job


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.optimizer_sharding=true", "train.optimizer_sharding = true is not supported with"),
        ("train.compression=bf16", 'train.compression = "bf16" is not supported with'),
        ("run.on_rank_loss=continue", 'run.on_rank_loss = "continue" is not supported with'),
    ],
)
def test_what_horovod_does_not_do(setting: str, message: str) -> None:
    horovod = ["backend=keras", "keras.comm=horovod"]
    with pytest.raises(JobError, match=message):
        load_job(overrides=[*horovod, setting])
    load_job(overrides=horovod)
    load_job(overrides=["backend=keras", setting])


# --------------------------------------------------------------------------------------------------------- travelling

SHORT = ["train.epochs=2", "run.display=quiet", "run.checkpoint_gap_s=0"]


def run(out: Path, name: str, backend, *settings: str, resume: str = "never") -> Path:
    loaded = load_job(overrides=[*SHORT, f"backend={name}", *settings])
    train(loaded, COMM, out=out, resume=resume, backend=backend)
    return out


@pytest.fixture(scope="module")
def runs(backend, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the digits after two epochs in each mode."""
    folder = tmp_path_factory.mktemp("runs")
    return {name: run(folder / name, name, each) for name, each in (("numpy", NUMPY), ("keras", backend))}


@pytest.mark.parametrize("trained", ["numpy", "keras"])
def test_weights_travel(runs: dict[str, Path], backend, tmp_path: Path, trained: str) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).uniform(0, 16, (300, 8, 8)))
    outputs, values, shas = [], [], []
    for name, each in (("numpy", NUMPY), ("keras", backend)):
        opened = open_trained(runs[trained] / "model.safetensors", backend=name, backend_of=lambda job, each=each: each)
        assert opened.job.backend == name
        outputs.append(np.concatenate([*predict(opened, COMM, input_loader(opened, COMM, str(x)))]))
        values.append(evaluate_trained(opened, COMM, None)[2])
        shas.append(opened.weights_sha256)
    assert shas[0] == shas[1]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    assert np.abs(outputs[0] - outputs[0].mean(axis=0)).max() > 0.1
    np.testing.assert_array_equal(*(each.pop("confusion_matrix") for each in values))
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert values[0]["accuracy"] > 0.85


@pytest.mark.parametrize(("before", "after"), [("numpy", "keras"), ("keras", "numpy")])
def test_a_run_goes_on_in_the_other_mode(backend, tmp_path: Path, capfd, before: str, after: str) -> None:
    backends = {"numpy": NUMPY, "keras": backend}
    stopped = run(tmp_path / "run", before, backends[before], "run.stop_at_step=30")
    with pytest.raises(HpcnnError, match=r"train.batch_size: 64 -> 32"):
        run(stopped, after, backends[after], "train.batch_size=32", resume="auto")
    capfd.readouterr()
    run(stopped, after, backends[after], resume="auto")
    said = capfd.readouterr().out
    assert re.search(rf"started with backend = '{before}'.* and is resumed with backend = '{after}'", said)
    assert "another machine" not in said
    facts = load_checkpoint(stopped / "model.safetensors").facts
    assert facts["job"]["backend"] == after
    assert json.loads((stopped / "result.json").read_text())["steps"] == 46


def test_what_a_mode_writes_says_which_it_was(runs: dict[str, Path]) -> None:
    for name, path in runs.items():
        facts = load_checkpoint(path / "model.safetensors").facts
        assert facts["job"]["backend"] == name
        assert ("tensorflow" in facts["machine"]) == (name == "keras")


def test_rank_0_says_what_takes_so_long(monkeypatch: pytest.MonkeyPatch, capsys, backend) -> None:
    monkeypatch.setattr("hpcnn.backends.keras.backend.KerasBackend.start", lambda local_rank: backend)
    monkeypatch.delitem(sys.modules, "tensorflow")
    choose = choose_backend(COMM)
    choose(load_job(overrides=["backend=keras", "run.display=quiet"]).job)
    assert capsys.readouterr().err == ""
    choose(make_job_with_backend())
    assert capsys.readouterr().err == "importing TensorFlow ...\n"
