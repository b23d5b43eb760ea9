"""Whole jobs in which each rank updates its own parameters, and gradients travel early: as if they did not."""

import numpy as np
import pytest

from hpcnn.comm.threads import run_threads
from hpcnn.errors import DivergedError
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.training.replica import NotFiniteError
from tests.small_jobs import LAYERS, cut, make_job, train

EARLY = {"monitor": "val_loss", "patience": 1, "min_delta": 0.001, "restore_best": True}
PLATEAU = {"monitor": "val_accuracy", "patience": 1, "factor": 0.5}
FROZEN = [{"type": "dense", "units": 7, "trainable": False, "kernel_l2": 1.0}, *LAYERS[1:]]
JOBS = {
    "everything": {},
    "12 shards": {"train": {"shards": 12}},
    "float64": {"train": {"dtype": "float64"}},
    "adam, clipped by norm": {"optimizer": {"name": "adam", "learning_rate": 0.01, "clip_norm": 0.5}},
    "adamw, clipped by value": {"optimizer": {"name": "adamw", "clip_value": 0.1}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "momentum": 0.5, "centered": True}},
    "callbacks": {"train": {"epochs": 5, "early_stopping": EARLY, "reduce_on_plateau": PLATEAU}},
    "frozen below": {"model": {"layers": FROZEN}},
}
FEW_ENTRIES = 0.0002
"""MB: the vector of `LAYERS` is cut in four."""
WAYS = [(2, True, 0.0), (3, True, FEW_ENTRIES), (5, True, 0.0), (4, False, FEW_ENTRIES), (1, True, 0.0)]
"""Ranks, optimizer_sharding, bucket_mb."""


def job_in(changes, sharded, bucket_mb):
    """Return the job of `changes` with these settings of speed."""
    speed = {"optimizer_sharding": sharded, "bucket_mb": bucket_mb}
    return make_job(**changes | {"train": changes.get("train", {}) | speed})


@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
def test_the_bits_are_those_of_one_rank(changes):
    one = train(job_in(changes, False, 0))
    assert one.done
    for ranks, *speed in WAYS:
        assert train(job_in(changes, *speed), ranks).bits() == one.bits()


@pytest.mark.parametrize("stop_at", range(1, 9))
def test_a_run_goes_on_in_another_way(stop_at):
    changes = JOBS["callbacks"] | {"optimizer": {"name": "adam", "clip_norm": 0.5}}
    changes["train"] = changes["train"] | {"epochs": 3}
    (before, *speed_before), (after, *speed_after) = WAYS[stop_at % 5], WAYS[(3 * stop_at + 1) % 5]
    stopped = train(job_in(changes, *speed_before), before, stop_at=stop_at, asked=before - 1)
    assert not stopped.done
    resumed = train(job_in(changes, *speed_after), after, start=stopped.state)
    assert resumed.bits() == train(job_in(changes, False, 0)).bits()


def test_early_stopping_brings_the_best_weights_back():
    """Proves that the job above ends with weights other than its last step's."""
    kept, last = (
        train(job_in({"train": {"epochs": 5, "early_stopping": EARLY | {"restore_best": best}}}, True, 0), 3)
        for best in (True, False)
    )
    assert [report.values for report in kept.reports] == [report.values for report in last.reports]
    assert kept.fingerprint != last.fingerprint


@pytest.mark.parametrize(("ranks", "sharded", "bucket_mb"), WAYS)
def test_weights_of_another_model_are_where_it_starts(tmp_path, ranks, sharded, bucket_mb):
    path = tmp_path / "first.safetensors"
    save_checkpoint(path, train(make_job()).state)
    changes = {"model": {"initial_weights": str(path)}, "train": {"seed": 9}}
    found = train(job_in(changes, sharded, bucket_mb), ranks)
    assert found.bits() == train(job_in(changes, False, 0)).bits()
    assert found.fingerprint != train(job_in({"train": {"seed": 9}}, sharded, bucket_mb), ranks).fingerprint


@pytest.mark.parametrize(("ranks", "sharded", "bucket_mb"), WAYS)
def test_a_gradient_that_overflows_is_told_on_all_ranks_and_named_on_one_at_least(ranks, sharded, bucket_mb):
    layers = [{"type": "dense", "name": name, "units": units} for name, units in (("first", 4), ("last", 1))]
    linear = {"source": "synthetic", "kind": "linear", "samples": 16, "features": 3}
    changes = {"data": linear, "model": {"layers": layers}, "loss": {"name": "mse"}, "train": {"metrics": []}}
    job = job_in(changes, sharded, bucket_mb)
    x, y = np.full((16, 3), 1e19, np.float32), np.zeros((16, 1), np.float32)

    def body(comm):
        replica = build_replica(job, build_spec(job, (3,)), comm)
        start = replica.weights()
        replica.load_weights({name: np.full_like(array, FINITE[name]) for name, array in start.items()})
        with pytest.raises(NotFiniteError) as caught:
            replica.train_step(0, cut(x, y, job.train.shards), factor=1.0, stop=False)
        return caught.value.what, caught.value.where

    replies = set(run_threads(ranks, body))
    named = ("a gradient", "the first gradient that is not finite is that of 'last/kernel'")
    assert named in replies
    assert replies <= {named, ("a gradient", None)}


FINITE = {"first/kernel": 1.0, "first/bias": 0.0, "last/kernel": 0.01, "last/bias": 0.0}
"""Weights with which the squared error still fits float32, but one gradient's sum does not."""


@pytest.mark.parametrize(("ranks", "sharded", "bucket_mb"), WAYS)
def test_a_run_that_diverges_says_where(ranks, sharded, bucket_mb):
    linear = {"source": "synthetic", "kind": "linear", "samples": 40, "features": 3}
    changes = {
        "data": linear, "model": {"layers": [{"type": "dense", "units": 1}]}, "loss": {"name": "mse"},
        "optimizer": {"name": "sgd", "learning_rate": 1e30},
        "train": {"metrics": [], "batch_size": "full", "arithmetic": "numpy"},
    }  # fmt: skip
    words = (
        r"step 2 \(epoch 2\), rank 0 on \S+: the loss is not finite; all layers' outputs are finite, the loss itself"
    )
    with pytest.raises(DivergedError, match=words):
        train(job_in(changes, sharded, bucket_mb), ranks)
