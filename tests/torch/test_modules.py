"""Modules that users' functions build: what is wrong with them, what they consist of, how they start and compute."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import JobError, ModelError
from hpcnn.job import model as models
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_replica, build_spec, build_training
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
        (
            "changes_weights",
            r"changes its parameter 'inner\.weight', which only the optimizer may: .*\(register_buffer",
        ),
        ("replaces_weights", r"changes its parameter 'inner\.bias', which only the optimizer may"),
        ("clipped", r"changes its parameter '1\.weight', .* an Embedding must not have max_norm"),
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
