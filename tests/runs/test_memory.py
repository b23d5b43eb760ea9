"""The memory that a rank needs, as it is estimated before a training, against what the training then has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hpcnn.backends.numpy.backend import NumpyBackend
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.core.tree import owned_leaves
from hpcnn.job.load import load_job
from hpcnn.nn import Dense, Layer, Network
from hpcnn.nn.layers import BatchNormalization
from hpcnn.nn.workspace import Workspace
from hpcnn.runs import memory
from hpcnn.runs.build import build_training
from hpcnn.runs.memory import MemoryNeed, largest_share, memory_need, memory_notes, shards_by_itself, shortage
from hpcnn.runs.spec import build_spec, spec_of
from hpcnn.training.loop import evaluate
from hpcnn.training.training import Training
from tests.small_jobs import LAYERS, build, make_job

WIDE = [
    {"type": "dense", "units": 300, "activation": "gelu"},
    {"type": "residual", "repeat": 3, "layers": [
        {"type": "layer_norm"}, {"type": "dense", "units": 300, "activation": "relu"}, {"type": "dropout", "rate": 0.1},
    ]},
    {"type": "dense", "units": 3, "activation": "softmax"},
]  # fmt: skip
NETWORKS = {
    "small": LAYERS,
    "wide": WIDE,
    "frozen": [{"type": "dense", "units": 50, "trainable": False}, *WIDE],
    "shared": [{"type": "dense", "units": 5, "name": "twice"}, {"type": "shared", "layer": "twice"}, *LAYERS],
}
WAYS = {
    "adam": {"optimizer": {"name": "adam"}},
    "clipped": {"optimizer": {"name": "sgd", "clip_norm": 1.0}},
    "float64": {"train": {"dtype": "float64"}},
    "uneven shards": {"train": {"shards": 3, "batch_size": 25, "eval_batch_size": 7}},
    "no validation": {"data": {"validation_fraction": 0.0}},
}


def need_of(training: Training, ranks: int = 1, *, sharded: bool = False) -> MemoryNeed:
    held_out = len(training.splits.validation) if training.splits.validation else 0
    samples = len(training.splits.train)
    return memory_need(training.job, training.spec, samples=samples, held_out=held_out, ranks=ranks, sharded=sharded)


def trained(training: Training, comm: object) -> Training:
    """Do a step and an evaluation."""
    training.shards.start_epoch(0)
    training.replica.train_step(0, lambda first, stop: training.shards.shards(0, first, stop), factor=1.0)
    if training.validation is not None:
        evaluate(comm, training.replica.model, training.validation)
    return training


def real_scratch(training: Training) -> int:
    """Return the bytes of all workspaces."""
    model, gradient_pass = training.replica.model, training.replica._pass
    found = [*vars(model).values(), *model._contexts, *vars(gradient_pass).values()]
    own = {id(one): one for one in found if isinstance(one, Workspace) and one is not model._scratch}
    return sum(one.nbytes for one in own.values())


def real_gradients(training: Training) -> int:
    exchange, gradient_pass = training.replica.updater.exchange, training.replica._pass
    vectors = [one.vector for one in exchange.contributions]
    for sums in getattr(gradient_pass, "_sums", []):
        vectors += [one.vector for one in sums.accumulators]
    vectors += [one.vector for one in getattr(gradient_pass, "_shards", [])]
    if not any(np.shares_memory(exchange.vector, vector) for vector in vectors):
        vectors.append(exchange.vector)
    return sum({vector.__array_interface__["data"][0]: vector.nbytes for vector in vectors}.values())


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_estimate_is_what_training_takes(layers, way, arithmetic):
    train = {"arithmetic": arithmetic, **way.get("train", {})}
    training = build(make_job(model={"layers": layers}, **{**way, "train": train}))
    need = need_of(training)
    trained(training, SerialCommunicator())
    assert need.weights == training.replica.model.vector.nbytes
    assert need.gradients == real_gradients(training)
    bound = training.replica.updater._bound
    state = sum(value.nbytes for value in bound.state.values())
    assert state <= need.optimizer <= state + bound.gradients[0].nbytes * len(bound.gradients)
    assert 0.9 * real_scratch(training) <= need.scratch <= 1.1 * real_scratch(training)
    pieces = training.validation
    buffers = [*training.shards._buffers, *([pieces._x, pieces._y] if pieces else [])]
    assert need.batches == sum(buffer._memory.nbytes for buffer in buffers)


class Normalizing(NumpyBackend):
    """Builds a network whose shards must be computed in step."""

    def build_network(self, job, input_shape):
        layers = [Dense(40), BatchNormalization(), Dense(40, activation="tanh"), Dense(3, activation="softmax")]
        return Network(layers, input_shape)


def test_shards_in_step_have_scratch_of_their_own():
    job = make_job(train={"arithmetic": "numpy", "batch_size": 24})
    training = build_training(job, Path(), SerialCommunicator(), Normalizing())
    need = need_of(training)
    trained(training, SerialCommunicator())
    assert 0.9 * real_scratch(training) <= need.scratch <= 1.1 * real_scratch(training)
    assert need.gradients == real_gradients(training)


@dataclass(frozen=True)
class NotToBeCalled(Layer):
    """A layer of a user's own."""

    def forward(self, params, x, ctx):
        raise AssertionError("called before the training")


def test_layers_of_others_are_not_called():
    job = make_job()
    network = Network([Dense(100), NotToBeCalled(), Dense(3, activation="softmax")], (5,))
    need = memory_need(job, spec_of(job, network), samples=30, held_out=3, ranks=1, sharded=False)
    assert need.scratch == (4 * 2 + 2 * 3 - 2 * 2) * (100 + 100 + 3) * 4  # shards of 2, pieces of 3 share what they can


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("ranks", [2, 3])
def test_several_ranks(ranks, sharded):
    job = make_job(
        model={"layers": WIDE},
        train={"optimizer_sharding": sharded, "batch_size": 24, "bucket_mb": 0},
        optimizer={"name": "adam"},
    )

    def body(comm):
        training = trained(build_training(job, Path(), comm), comm)
        bound = training.replica.updater._bound
        return training, real_scratch(training), sum(value.nbytes for value in bound.state.values())

    found = run_threads(ranks, body)
    need = need_of(found[0][0], ranks, sharded=sharded)
    scratch, state = max(one[1] for one in found), max(one[2] for one in found)
    assert 0.9 * scratch <= need.scratch <= 1.1 * scratch
    assert 0.95 * state <= need.optimizer <= 1.05 * state
    slots = max(
        sum(one.vector.nbytes for one in training.replica.updater.exchange.contributions) for training, *_ in found
    )
    assert slots <= need.gradients <= slots + found[0][0].replica.model.vector.nbytes


@pytest.mark.parametrize(("batch", "shards", "ranks"), [(64, 8, 3), (13, 8, 5), (3, 8, 8), (100, 7, 7), (5, 1, 1)])
def test_the_largest_share_is_that_of_the_rank_with_most_samples(batch, shards, ranks):
    share = largest_share(batch, shards, ranks)
    bounds = [owned_leaves(shards, ranks, rank) for rank in range(ranks)]
    assert share.samples == max(batch * stop // shards - batch * first // shards for first, stop in bounds)
    assert (share.subtrees[0][0], share.subtrees[-1][1]) in bounds
    assert share.shards == share.subtrees[-1][1] - share.subtrees[0][0]


def test_the_best_weights_are_kept_beside_the_others():
    best = {"monitor": "val_loss", "patience": 1, "restore_best": True}
    plain, keeping = (need_of(build(make_job(train={"early_stopping": each}))) for each in (None, best))
    assert keeping.weights == 2 * plain.weights


def test_memory_that_there_is_not_is_only_reserved():
    """Of a network of 80 GB nothing is computed, whatever computes it."""
    layers = [{"type": "dense", "units": units} for units in (200_000, 100_000, 3)]
    layers[-1]["activation"] = "softmax"
    for arithmetic in ("native", "numpy"):
        changed = make_job(model={"layers": layers}, train={"arithmetic": arithmetic})
        need = memory_need(changed, build_spec(changed, (5,)), samples=30, held_out=7, ranks=1, sharded=False)
        assert need.total > 240e9
        assert need.scratch > 2 * 300_000 * 4


# ------------------------------------------------------------------------------------------------------------ in words


BIG = [{"type": "dense", "units": 6000}, {"type": "dense", "units": 3, "activation": "softmax"}]


def notes(free: int | None, monkeypatch, *, ranks: int = 1, **changes):
    monkeypatch.setattr(memory, "free_memory", lambda: free)
    monkeypatch.setattr(memory, "WORTH_SAYING", 10**5)
    job = make_job(model={"layers": BIG}, **changes)
    return run_threads(ranks, lambda comm: memory_notes(comm, build_training(job, Path(), comm)))


def test_a_run_says_what_it_needs(monkeypatch):
    ((line, warning),) = notes(10**9, monkeypatch)
    assert line.startswith("memory: about ")
    assert " MB a rank (weights 216 kB, gradients 216 kB, optimizer state 216 kB, activations and scratch " in line
    assert warning is None
    assert notes(None, monkeypatch) == [(line, None)]


def test_a_run_warns_where_memory_is_short(monkeypatch):
    first, *others = notes(10**5, monkeypatch, ranks=2)
    assert others == [("", None)]
    assert first[1].startswith("2 ranks on ")
    assert "of memory, but only 100 kB are free: the system may end them. Use more ranks on more hosts, " in first[1]


def test_a_small_or_a_quiet_run_says_nothing(monkeypatch):
    assert notes(10, monkeypatch, run={"display": "quiet"}) == [("", None)]
    monkeypatch.undo()
    assert memory_notes(SerialCommunicator(), build(make_job(run={"display": "plain"}))) == ("", None)


def test_the_ranks_of_a_host_are_told_when_they_need_too_much():
    assert shortage(100, 100, 1, "node") is None
    assert shortage(101, None, 1, "node") is None
    assert shortage(2 * 10**9, 10**9, 4, "node") == (
        "4 ranks on node need about 2 GB of memory, but only 1 GB are free: the system may end them. Use more ranks on "
        "more hosts, a smaller train.batch_size or a smaller model, or train.optimizer_sharding = true."
    )


@pytest.mark.parametrize(
    ("setting", "parameters", "ranks", "expected"),
    [
        ("auto", 8192, 2, True),
        ("auto", 8191, 2, False),
        (True, 10, 2, True),
        (False, 10**6, 2, False),
        (True, 9, 1, False),
    ],
)
def test_who_updates_what(setting, parameters, ranks, expected):
    assert shards_by_itself(make_job(train={"optimizer_sharding": setting}), parameters, ranks) is expected


def test_the_estimate_of_the_digits_is_quick():
    """Twenty milliseconds are allowed; the best of a few, since other programs run, too."""
    training = build_training(load_job().job, Path(), SerialCommunicator())
    taken = []
    for _ in range(10):
        begin = time.perf_counter()
        need_of(training)
        taken.append(time.perf_counter() - begin)
    assert min(taken) < 0.02
