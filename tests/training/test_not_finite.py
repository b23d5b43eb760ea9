"""A loss or gradient that is not finite: told on all ranks alike, by the layer's name, the weights as they were."""

import numpy as np
import pytest

from hpcnn.comm.threads import run_threads
from hpcnn.errors import DivergedError
from hpcnn.job.optimizer import Sgd
from hpcnn.optim.build import build_optimizer
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.replica import NotFiniteError
from tests.optim.cases import Bound
from tests.small_jobs import cut, make_job, train

LAYERS = [
    {"type": "dense", "name": "first", "units": 4, "activation": "relu"},
    {"type": "residual", "name": "block", "layers": [{"type": "dense", "name": "inner", "units": 4}]},
    {"type": "dropout", "name": "drop", "rate": 0.1},
    {"type": "dense", "name": "last", "units": 1},
]
N, SHARDS = 16, 8


def step(ranks, *, x=None, y=None, weights=None, dtype="float32", arithmetic="native"):
    """Do one step; return of each rank the error, and whether the weights are as they were."""
    job = make_job(model={"layers": LAYERS}, loss={"name": "mse"}, data={"kind": "linear", "classes": None},
                   train={"metrics": ["mae"], "dtype": dtype, "arithmetic": arithmetic})  # fmt: skip
    x = np.ones((N, 3), dtype) if x is None else x.astype(dtype)
    y = np.zeros((N, 1), dtype) if y is None else y.astype(dtype)

    def body(comm):
        replica = build_replica(job, build_spec(job, (3,)), comm)
        given = replica.weights()
        for name, value in (weights or {}).items():
            given[name][...] = value
        replica.load_weights(given)
        before = replica.model.fingerprint()
        with pytest.raises(NotFiniteError) as caught:
            replica.train_step(0, cut(x, y, job.train.shards), factor=1.0, stop=False)
        return caught.value, replica.model.fingerprint() == before

    return run_threads(ranks, body)


def check_blame(replies, layer):
    """Check that the rank that owns shard 4 names `layer`, and that the others know nothing."""
    ranks = len(replies)
    owner = next(rank for rank in range(ranks) if SHARDS * rank // ranks <= 4 < SHARDS * (rank + 1) // ranks)
    for rank, (error, unchanged) in enumerate(replies):
        assert error.what == "the loss"
        assert unchanged
        blame = f"the first output that is not finite is that of layer {layer!r} (shard 4)"
        assert error.where == (blame if rank == owner else None)


@pytest.mark.parametrize("ranks", [1, 3, 8])
@pytest.mark.parametrize("layer", ["first", "inner", "last"])
def test_the_rank_that_has_the_bad_shard_names_the_layer(ranks, layer):
    x = np.ones((N, 3))
    x[9] = 1e30  # in shard 4; times 1e10 it overflows there alone
    weights = {"first/kernel": 1.0, "inner/kernel": 0.0, "last/kernel": 1.0, f"{layer}/kernel": 1e10}
    if layer == "inner":
        weights["last/kernel"] = 1e-10
    check_blame(step(ranks, x=x, weights=weights), layer)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_bad_inputs_are_blamed_on_the_first_layer(wrong):
    x = np.ones((N, 3))
    x[9, 1] = wrong
    check_blame(step(3, x=x, weights={"first/kernel": 1.0}), "first")


def test_a_loss_that_overflows_by_itself():
    """The compiled core computes losses in float64, where that takes more."""
    ((error, unchanged),) = step(1, y=np.full((N, 1), 1e30), arithmetic="numpy")
    assert (error.what, unchanged) == ("the loss", True)
    assert error.where == "all layers' outputs are finite, the loss itself is not (shard 0)"


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_gradient_that_overflows_is_told_on_all_ranks_by_the_parameters_name(ranks):
    """The squared error still fits float32, but the gradient's sum does not."""
    x = np.full((N, 3), 1e19)
    for error, _ in step(ranks, x=x, weights={"first/kernel": 1, "inner/kernel": 0, "last/kernel": 0.01}):
        assert error.what == "a gradient"
        assert error.where == "the first gradient that is not finite is that of 'last/kernel'"


def test_a_gradient_whose_square_overflows_has_no_place_to_name():
    gradient = np.array([1e25, 1.0], np.float32)
    optimizer = build_optimizer(Sgd())
    assert not Bound(optimizer, np.zeros(2, np.float32), gradient).update(optimizer.step_info(0), 1.0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("ranks", [1, 4])
@pytest.mark.parametrize("metrics", [[], ["mae", "mse", "r2"]])
def test_a_run_that_diverges_says_when_where_and_what_to_do_and_gives_no_warning(ranks, metrics):
    job = make_job(
        data={"source": "synthetic", "kind": "linear", "samples": 40, "features": 3},
        model={"layers": [{"type": "dense", "name": "only", "units": 1, "kernel_l2": 0.1}]},
        loss={"name": "mse"},
        optimizer={"name": "sgd", "learning_rate": 1e4},
        train={"epochs": 50, "metrics": metrics},
    )
    where = r"step \d+ \(epoch \d+\), rank \d on \S+: (the loss|a gradient) is not finite(; [^;]+)?\. "
    with pytest.raises(DivergedError, match=where + r"The last checkpoint is as it was\. Try a lower"):
        train(job, ranks)


def test_a_validation_loss_that_is_not_finite_ends_the_run():
    job = make_job(
        data={"source": "synthetic", "kind": "linear", "samples": 40, "features": 3, "validation_fraction": 0.5},
        model={"layers": [{"type": "dense", "units": 1}]},
        loss={"name": "mse"},
        optimizer={"name": "sgd", "learning_rate": 1e25},
        train={"epochs": 5, "batch_size": "full", "metrics": [], "arithmetic": "numpy"},
    )
    with pytest.raises(DivergedError, match=r"step 2 \(epoch 1\): val_loss is (inf|nan)\. .*Try a lower"):
        train(job, 2)
