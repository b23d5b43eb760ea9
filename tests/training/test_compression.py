"""Training with compressed gradients: the same bits wherever the ranks are, and nearly the result without."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CheckpointError, DivergedError, JobError
from hpcnn.job.checks import check_job
from hpcnn.job.load import load_job
from hpcnn.runs.build import build_training, settled
from hpcnn.runs.state import check_same_job, job_of, unpack
from hpcnn.storage.checkpoint import load_checkpoint, save_checkpoint
from hpcnn.training.loop import TrainingLoop
from hpcnn.training.tuning import shards_optimizer
from tests.small_jobs import Keeper, build, make_job, runs_through, train

ROOT = Path(__file__).parents[2]
ADAM = {"name": "adam", "learning_rate": 0.01, "clip_norm": 0.5}
LAYERS = [{"type": "dense", "units": 40, "activation": "relu"}, {"type": "dense", "units": 3, "activation": "softmax"}]
LAYOUTS = [[0, 0], [0, 1], [0, 1, 0], [0, 0, 1, 1], [0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1, 1, 1]]


def compressed(kind="bf16", groups=2, *, train=None, **changes):
    """Return a job whose vector is long enough for each of many ranks to own some of it."""
    settings = {"compression": kind, "compression_groups": groups, **(train or {})}
    return make_job(model={"layers": LAYERS}, train=settings, **{"optimizer": ADAM, **changes})


def train_on(job, layout, *, start=None, stop_at=0):
    """Return whether the training ended, the hash of the weights, and the state in the end."""

    def body(comm):
        training = build_training(job, Path(), comm)
        progress = unpack(start, training) if start else None
        keeper = Keeper(training)
        callbacks = list(training.callbacks.values())
        loop = TrainingLoop(
            training, comm, callbacks=callbacks, save=keeper, should_stop=lambda: False, progress=progress
        )
        done = runs_through(loop)
        return done, training.replica.model.fingerprint(), keeper.states[-1]

    if stop_at:
        job = msgspec.structs.replace(job, run=msgspec.structs.replace(job.run, stop_at_step=stop_at))
    if len(layout) == 1:
        return body(SerialCommunicator())
    results = run_threads(len(layout), body, host_of_rank=layout)
    assert len({sha256 for _, sha256, _ in results}) == 1
    return results[0]


def changed(job, **settings):
    """Return the job with other settings of speed."""
    return msgspec.structs.replace(job, train=msgspec.structs.replace(job.train, **settings))


WAYS = [
    {"optimizer_sharding": False},
    {"optimizer_sharding": False, "bucket_mb": 0.0004},
    {"optimizer_sharding": True},
    {"optimizer_sharding": True, "bucket_mb": 0.0004},
]
JOBS = {
    "bf16, 1 group": compressed(groups=1),
    "bf16, 2 groups": compressed(groups=2),
    "bf16, 4 groups": compressed(groups=4),
    "bf16, 8 groups": compressed(groups=8),
    "fp16, 2 groups": compressed("fp16"),
    "bf16, float64": compressed(train={"dtype": "float64"}),
    "fp16, float64": compressed("fp16", train={"dtype": "float64"}),
    "plain sgd": compressed(optimizer={"name": "sgd", "learning_rate": 0.05}),
}


@lru_cache
def alone(name):
    return train_on(JOBS[name], [0])


@pytest.mark.parametrize("name", JOBS)
def test_one_result_on_any_ranks_and_hosts(name):
    done, sha256, state = alone(name)
    assert done
    for number, layout in enumerate(LAYOUTS, start=list(JOBS).index(name)):
        again = train_on(changed(JOBS[name], **WAYS[number % len(WAYS)]), layout)
        assert again[1] == sha256
        owed = [one.part("compression") for one in (state, again[2])]
        assert owed[0].keys() == owed[1].keys()
        assert all(owed[1][key].tobytes() == value.tobytes() for key, value in owed[0].items())


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_one_result_each_way(way):
    for layout in ([0], [0, 1], [0, 1, 1]):
        assert train_on(changed(JOBS["bf16, 2 groups"], **way), layout)[1] == alone("bf16, 2 groups")[1]


def test_compression_and_its_groups_decide_the_result():
    plain = changed(JOBS["bf16, 2 groups"], compression="none", compression_groups="auto")
    hashes = [train_on(plain, [0])[1], *(alone(name)[1] for name in JOBS)]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("before", "after"), [([0, 1, 1], [0]), ([0], [0, 0, 1, 1]), ([0, 1], [0, 1, 2, 2, 2])], ids=str
)
@pytest.mark.parametrize("sharded", [False, True])
def test_stopped_and_resumed_elsewhere_is_not_stopped(sharded, before, after, tmp_path):
    name = "bf16, 2 groups"
    job = changed(JOBS[name], optimizer_sharding=sharded)
    for stop_at in (1, 4):
        done, _, state = train_on(job, before, stop_at=stop_at)
        assert not done
        parameters = build(job).spec.network.layout.trainable_size
        owed = {key: (value.shape, value.dtype) for key, value in state.part("compression").items()}
        assert owed == dict.fromkeys(["group_0", "group_1", "total"], ((parameters,), np.float32))
        assert all(state.part("compression")[key].any() for key in owed)
        save_checkpoint(tmp_path / "last.safetensors", state)
        done, sha256, _ = train_on(job, after, start=load_checkpoint(tmp_path / "last.safetensors"))
        assert (done, sha256) == (True, alone(name)[1])


def test_what_is_owed_is_needed_to_go_on():
    """Proves that the test above can fail, and that a state without it is refused."""
    _, _, state = train_on(JOBS["bf16, 2 groups"], [0], stop_at=4)
    tensors = {key: np.zeros_like(value) if key.startswith("compression/") else value
               for key, value in state.tensors.items()}  # fmt: skip
    forgotten = type(state)(tensors, state.facts)
    assert train_on(JOBS["bf16, 2 groups"], [0], start=forgotten)[1] != alone("bf16, 2 groups")[1]
    without = type(state)({k: v for k, v in tensors.items() if not k.startswith("compression/")}, state.facts)
    with pytest.raises(CheckpointError, match="the state of the compression is another's"):
        train_on(JOBS["bf16, 2 groups"], [0], start=without)


def test_without_compression_a_checkpoint_is_as_before():
    assert train(make_job()).state.part("compression") == {}


def test_the_digits_are_learnt_as_well():
    job = changed(load_job(ROOT / "jobs" / "digits_mlp.toml", []).job, epochs=8)
    accuracies = [
        train(changed(job, **settings)).reports[-1].values["val_accuracy"]
        for settings in (
            {},
            {"compression": "bf16", "compression_groups": 4},
            {"compression": "fp16", "compression_groups": 1},
        )
    ]
    assert accuracies[0] > 0.95
    np.testing.assert_allclose(accuracies, accuracies[0], atol=0.01)


def test_a_sum_beyond_fp16_is_told_by_all_ranks():
    job = compressed("fp16", data={"features": 5, "scale": "none"}, loss={"name": "sparse_categorical_crossentropy",
                     "class_weights": [3e5, 3e5, 3e5]})  # fmt: skip
    for layout in ([0], [0, 1]):
        with pytest.raises(
            DivergedError, match=r"a gradient is not finite; the first gradient that is not finite is that of 'dense_"
        ):
            train_on(job, layout)
    assert train_on(changed(job, compression="bf16"), [0])[0]


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(("settings", "text"), [
    ({"compression": "bf16", "compression_groups": 3},
     r"compression_groups = 3: expected a power of two, at most train\.shards = 8\. .*; 2 would do, or \"auto\""),
    ({"compression": "fp16", "compression_groups": 16},
     r"compression_groups = 16: expected a power of two, at most train\.shards = 8\. .*; 8 would do"),
    ({"compression": "fp16", "compression_groups": 6, "shards": "auto"},
     r"compression_groups = 6: expected a power of two\. .*; 4 would do"),
    ({"compression_groups": 2},
     r"compression_groups = 2, but train\.compression = \"none\", so nothing is rounded: set it to \"auto\", or"),
])  # fmt: skip
def test_groups_that_do_not_suit_are_refused(settings, text):
    with pytest.raises(JobError, match=text):
        make_job(train=settings)


def test_open_groups_are_as_many_as_there_are_hosts_or_fewer():
    job = compressed(groups="auto")
    check_job(job)
    chosen = {hosts: settled(job, 30, hosts).train.compression_groups for hosts in (1, 2, 3, 4, 7, 8, 9, 100)}
    assert chosen == {1: 1, 2: 2, 3: 2, 4: 4, 7: 4, 8: 8, 9: 8, 100: 8}
    assert settled(compressed(groups=4), 30, 2).train.compression_groups == 4
    assert settled(make_job(), 30, 2).train.compression_groups == "auto"
    resolved = settled(job, 30, 2)
    assert msgspec.structs.replace(resolved, train=job.train) == job


def test_groups_are_checked_again_when_the_shards_are_known():
    job = compressed(groups=4, train={"shards": "auto", "batch_size": "full", "arithmetic": "numpy"})
    with pytest.raises(JobError, match=r"compression_groups = 4: expected a power of two, at most train\.shards = 3"):
        settled(job, 3, 2)


def test_another_compression_is_another_job():
    old = msgspec.to_builtins(compressed())
    for other, text in [
        (compressed("fp16"), r"train\.compression: \"bf16\" -> \"fp16\""),
        (compressed(groups=4), r"train\.compression_groups: 2 -> 4"),
    ]:
        with pytest.raises(CheckpointError, match=text):
            check_same_job(old, other)
    before = msgspec.to_builtins(make_job())  # of a version without compression
    del before["train"]["compression"], before["train"]["compression_groups"]
    check_same_job(before, make_job())
    assert job_of(before).train.compression == "none"


def test_between_hosts_sums_travel_back_and_not_parameters():
    def sharded(job, hosts):
        return shards_optimizer(job.train, 10**6, SimpleNamespace(size=4, hosts=hosts))

    assert sharded(compressed(), 1)
    assert not sharded(compressed(), 2)
    assert sharded(compressed(train={"optimizer_sharding": True}), 2)
    assert sharded(make_job(), 2)
