"""What builds PyTorch modules: users' functions and their faults, a missing package, weights that travel, exports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hpcnn.backends.choice import choose_backend
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import HpcnnError, JobError, MissingExtraError, ModelError
from hpcnn.export import _format as format_of
from hpcnn.export import _parser as parser
from hpcnn.job import model as models
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_replica, build_spec, build_training
from hpcnn.runs.inference import evaluate_trained, input_loader, open_trained, predict
from hpcnn.runs.session import train
from hpcnn.storage.checkpoint import load_checkpoint
from tests.mpi.launch import ROOT
from tests.require import require
from tests.small_jobs import make_job
from tests.torch.modes import torch_backend

USERS = "tests.torch.modules_of_users"
COMM = SerialCommunicator()


@pytest.fixture(scope="module", autouse=True)
def backend():
    with torch_backend() as started:
        yield started


def job_of(entry: str, **changes):
    model = {"layers": None, "entry": f"{USERS}:{entry}", **changes.pop("model", {})}
    return make_job(model=model, **changes)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("no_module", "must return a torch.nn.Module, but returned int"),
        ("no_parameters", "returned a module without parameters: there is nothing to train"),
        ("all_frozen", "whose parameters all have requires_grad=False"),
        ("other_dtype", "the parameter 'weight' is float64, but train.dtype is float32. Leave the type to the job"),
        ("mixed", r"the parameter '1\.weight' is bfloat16, but train.dtype is float32"),
        ("no_momentum", "'1' has momentum=None: .* Give it a momentum, as 0.1"),
        ("synchronized", "'1' is a SyncBatchNorm, which needs torch.distributed"),
        ("two_outputs", "the module must return one tensor, but returns tuple"),
        ("integers", "the module returns int64, but train.dtype is float32: convert it"),
        ("one_row", r"for 2 samples the module returns a tensor of shape \(3,\). Its first axis must be that of the"),
        ("detached", "the outputs of the module do not depend on its parameters"),
        ("counts", "training changes the buffer 'count', which is int64 and can't be averaged over the shards"),
        ("broken", r"the module can't be called on samples of shape \(5,\): RuntimeError: out of order"),
        ("of_python", "the module draws random numbers from Python's random, whose state does not follow"),
        ("of_numpy", "the module draws random numbers from numpy.random, whose state does not follow"),
        ("own_probabilities", r"sum to 1, as probabilities do, but do not come from a softmax\. Return logits"),
    ],
)
def test_what_is_wrong_with_a_users_module_is_said_once(backend, entry: str, message: str) -> None:
    with pytest.raises(ModelError, match=f"model.entry '{USERS}:{entry}'.*") as caught:
        build_spec(job_of(entry), (5,), backend)
    assert re.search(message, str(caught.value), re.DOTALL)


def test_a_shard_of_one_sample_is_too_few_for_batch_normalization(backend) -> None:
    training = build_training(job_of("normalized", train={"shards": 16}), Path(), COMM, backend)
    x, y = np.ones((1, 5), np.float32), np.zeros(1, np.int64)
    with pytest.raises(ModelError, match=r"the module fails on 1 samples in training: ValueError: Expected more than"):
        training.replica.model.forward((0,), x, y, None, None)


def test_a_module_of_pytorch_in_numpy_mode(backend) -> None:
    with pytest.raises(ModelError, match=r'returned Sequential: a module of PyTorch, which needs backend = "torch"'):
        build_spec(job_of("normalized"), (5,), NUMPY)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.checkpoint_activations=true", 'backend = "torch": remove it.*torch.utils.checkpoint does the same'),
        ("train.dtype=float64", 'torch.autocast = "bfloat16" is for weights of type float32, but train.dtype = "flo'),
    ],
)
def test_what_pytorch_mode_does_not_do(setting: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        load_job(overrides=["backend=torch", "torch.autocast=bfloat16", setting])


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    message = r'backend = "torch" needs the package \'torch\', which is not installed.*hpcnn\[torch\]'
    with pytest.raises(MissingExtraError, match=message):
        choose_backend(COMM)(load_job(overrides=["backend=torch"]).job)


def test_importing_hpcnn_does_not_import_torch() -> None:
    code = "import sys, hpcnn, hpcnn.train; hpcnn.fit; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------------- what modules consist of


@pytest.mark.parametrize(
    ("last", "head", "ending"),
    [
        ("Identity", "softmax", "softmax"),
        ("ReLU", "softmax", "softmax"),
        ("Softmax", "linear", "softmax"),
        ("Sigmoid", "linear", "sigmoid"),
        ("Softplus", "linear", "softplus"),
    ],
)
def test_outputs_are_logits_unless_the_module_says_otherwise(backend, last: str, head: str, ending: str) -> None:
    network = build_spec(job_of("ending_in", model={"options": {"last": last}}), (5,), backend).network
    assert (network.head, network.ending) == (head, ending)
    with pytest.raises(JobError, match=r'ends in activation = "log_softmax", whose outputs are not probabilities'):
        build_training(job_of("ending_in", model={"options": {"last": "LogSoftmax"}}), Path(), COMM, backend)


def test_a_regression_has_no_activation_behind_it(backend) -> None:
    job = job_of("ending_in", model={"options": {"last": "Identity"}}, loss={"name": "mse"}, train={"metrics": []})
    assert build_spec(job, (5,), backend).network.head == "linear"


def test_tied_frozen_and_idle_weights(backend) -> None:
    spec = build_spec(job_of("tied"), (5,), backend)
    places = {one.name: (one.trainable, one.state) for one in spec.network.layout.specs}
    learning, still = (True, False), (False, False)
    assert places == {
        "idle": learning, "first.weight": learning, "first.bias": learning, "second.bias": learning,
        "out.weight": still, "out.bias": learning, "table": still,
    }  # fmt: skip
    replica = build_replica(job_of("tied"), spec, COMM)
    before = replica.weights()
    x, y = np.random.default_rng(0).random((6, 5), np.float32), np.arange(6) % 3
    into = _accumulator(spec)
    replica.model.forward((0,), x, y, None, None)[2](into, None)
    assert not into.grads["idle"].any()
    assert into.grads["first.weight"].any()
    module = replica.model.module
    assert module.second.weight is module.first.weight
    np.testing.assert_array_equal(module.first.weight.detach().numpy(), before["first.weight"])
    replica.model.vector += 1
    np.testing.assert_array_equal(module.table.numpy(), before["table"] + 1)  # the same memory


def _accumulator(spec):
    from hpcnn.training.model import Accumulator

    vector = np.full(spec.network.layout.trainable_size, np.nan, np.float32)
    return Accumulator(spec.network.layout, vector, np.zeros(spec.stats_length))


def test_gradients_are_those_of_pytorch_and_told_from_the_end(backend) -> None:
    import torch

    job = job_of("tied", train={"metrics": []})
    spec = build_spec(job, (5,), backend)
    model = build_replica(job, spec, COMM).model
    x, y = np.random.default_rng(1).random((6, 5), np.float32), np.arange(6) % 3
    weights = np.arange(6.0) + 1
    into, told = _accumulator(spec), []
    loss, _, backward = model.forward((0,), x, y, weights, None)
    backward(into, told.append)
    terms = torch.nn.functional.cross_entropy(model.module(torch.tensor(x)), torch.tensor(y), reduction="none")
    total = (terms * torch.tensor(weights)).sum()
    assert loss == pytest.approx(total.item(), rel=1e-6)
    model.module.zero_grad()
    for name, parameter in model.module.named_parameters():
        if parameter.requires_grad and name != "idle":
            (expected,) = torch.autograd.grad(total, parameter, retain_graph=True)
            np.testing.assert_allclose(into.grads[name], expected.numpy(), rtol=1e-5, atol=1e-6)
    assert told == sorted(told, reverse=True)
    assert told[0] > told[-1] == spec.network.layout.offsets["first.weight"]  # the idle one is before it


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_of_batch_normalization(backend, dtype: str) -> None:
    job = job_of("normalized", train={"dtype": dtype, "metrics": []})
    spec = build_spec(job, (5,), backend)
    assert [one.name for one in spec.network.state] == ["2.running_mean", "2.running_var"]
    assert "2.num_batches_tracked" not in spec.network.layout.offsets
    model = build_replica(job, spec, COMM).model
    x, y = np.random.default_rng(1).random((6, 5)).astype(dtype), np.arange(6) % 3
    states = []
    for key in ((1,), (1,), (2,)):
        states.append(np.empty(18))
        loss, _, _ = model.forward(key, x, y, None, states[-1])
        states[-1] = np.append(states[-1], loss)
    np.testing.assert_array_equal(states[0], states[1])  # from the same start, with the same draws
    assert states[0][-1] != states[2][-1]
    first = model.module[1]
    rows = x @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    np.testing.assert_allclose(states[0][:9], 0.2 * rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(states[0][9:18], 0.8 + 0.2 * rows.var(axis=0, ddof=1), rtol=1e-5)
    before = model.evaluate(x, y, None)[0]
    model.params["2.running_mean"][...] += 1
    assert model.evaluate(x, y, None)[0] != before


@pytest.mark.parametrize("entry", ["lazy", "tied"])
def test_the_start_of_a_users_module_follows_from_the_job(backend, entry: str) -> None:
    import torch

    def start(seed: int) -> str:
        torch.rand(3)  # of the caller's own
        replica = build_training(job_of(entry, train={"seed": seed}), Path(), COMM, backend).replica
        return replica.model.fingerprint()

    torch.manual_seed(3)
    first = start(1)
    drawn = torch.rand(1)
    assert first == start(1) != start(2)
    torch.manual_seed(3)
    torch.rand(3)
    assert torch.rand(1) == drawn


def test_a_network_of_hpcnn(backend) -> None:
    ours, theirs = (build_spec(job_of("of_hpcnn"), (5,), each) for each in (NUMPY, backend))
    assert ours.network.layout.offsets == theirs.network.layout.offsets == {"out/kernel": 0, "out/bias": 15}


def test_a_loss_of_the_users_own(backend) -> None:
    def model_of(loss=None):
        job = msgspec.structs.replace(job_of("tied"), backend="torch")
        job = msgspec.structs.replace(job, loss=loss or job.loss)
        return build_replica(job, build_spec(job, (5,), backend), COMM).model

    x, y, weights = np.random.default_rng(0).random((6, 5), np.float32), np.arange(6) % 3, np.arange(6.0)
    own = partial(models.Function, targets="labels")
    by_name, by_function = model_of(), model_of(own(function="crossentropy"))
    for each in (None, weights):
        values = [model.evaluate(x, y, each)[0] for model in (by_name, by_function)]
        assert values[0] == pytest.approx(values[1], rel=1e-6)
    message = r"its_mean' must return the loss of each sample, .*\(6,\), but returned float32 of shape \(\)"
    with pytest.raises(ModelError, match=message):
        model_of(own(function="its_mean")).evaluate(x, y, None)
    with pytest.raises(JobError, match=rf"loss.function '{USERS}:crosentropy': .* Did you mean 'crossentropy'"):
        model_of(own(function="crosentropy"))
    with pytest.raises(JobError, match=r'"function" is for backend = "torch" with model\.entry'):
        load_job(overrides=["loss={ name = 'function', function = 'f' }"])


def test_products_in_bfloat16(backend) -> None:
    job = job_of("normalized", train={"metrics": []})
    half = msgspec.structs.replace(job, torch=msgspec.structs.replace(job.torch, autocast="bfloat16"))
    x = np.random.default_rng(0).random((8, 5), np.float32)
    outputs = []
    for each in (job, half):
        model = build_replica(each, build_spec(each, (5,), backend), COMM).model
        outputs.append(model.predict(x).copy())
        assert model.vector.dtype == outputs[-1].dtype == np.float32
    error = np.abs(outputs[0] - outputs[1]).max()
    assert 1e-6 < error < 1e-2


# --------------------------------------------------------------------------------------------------------- travelling

SHORT = ["train.epochs=2", "run.display=quiet", "run.checkpoint_gap_s=0"]


def run(out: Path, name: str, backend, *settings: str, resume: str = "never") -> Path:
    loaded = load_job(overrides=[*SHORT, f"backend={name}", *settings])
    train(loaded, COMM, out=out, resume=resume, backend=backend)
    return out


@pytest.mark.parametrize(("before", "after"), [("numpy", "torch"), ("torch", "numpy")])
def test_a_run_goes_on_in_the_other_mode(backend, tmp_path: Path, capfd, before: str, after: str) -> None:
    backends = {"numpy": NUMPY, "torch": backend}
    stopped = run(tmp_path / "run", before, backends[before], "run.stop_at_step=30")
    capfd.readouterr()
    run(stopped, after, backends[after], resume="auto")
    said = capfd.readouterr().out
    assert re.search(rf"started with backend = '{before}'.* and is resumed with backend = '{after}'", said)
    facts = load_checkpoint(stopped / "model.safetensors").facts
    assert facts["job"]["backend"] == after
    assert ("torch" in facts["machine"]) == (after == "torch")
    assert json.loads((stopped / "result.json").read_text())["steps"] == 46
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).uniform(0, 16, (50, 8, 8)))
    outputs, values = [], []
    for name, each in backends.items():
        opened = open_trained(stopped / "model.safetensors", backend=name, backend_of=lambda job, each=each: each)
        outputs.append(np.concatenate([*predict(opened, COMM, input_loader(opened, COMM, str(x)))]))
        values.append(evaluate_trained(opened, COMM, None)[2])
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    assert values[0]["loss"] == pytest.approx(values[1]["loss"], rel=1e-5)
    assert values[1]["accuracy"] > 0.85


def test_a_module_that_was_trained_is_exported(backend, tmp_path: Path) -> None:
    require("onnxruntime")
    entry = f"{USERS}:cnn"
    folder = run(tmp_path / "run", "torch", backend, "model.layers=[]", f"model.entry={entry}")
    before = (folder / "model.safetensors").read_bytes()
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(0, 16, (5, 8, 8)).astype(np.float32))
    command = [sys.executable, "-m", "tests.torch.exported", str(folder), entry, str(tmp_path / "x.npy")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (folder / "model.safetensors").read_bytes() == before
    errors = json.loads(done.stdout.splitlines()[-1])
    assert errors.keys() == {"safetensors", "pt2", "onnx"}
    assert max(errors.values()) < 1e-5


def test_a_state_dict_holds_no_scaling() -> None:
    arguments = parser().parse_args(["run", "--format", "safetensors", "--no-scaling"])
    with pytest.raises(HpcnnError, match="--no-scaling has no effect with --format safetensors, which holds no scal"):
        format_of(arguments)
