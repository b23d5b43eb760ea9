"""The gradient noise scale: right where it is known, the same bits on any number of ranks, and none of the weights'."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.critical_batch import NOISE_SCALE
from hpcnn.job.schema import Run
from hpcnn.nn import BatchNormalization, Dense, Network
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.callbacks import StepReport
from hpcnn.training.noise_scale import NoiseScale, NoiseScaleMeter
from hpcnn.training.squared_norm import cell_entries, squared_norm, squares_of
from tests.small_jobs import build, cut, make_job, train

EVERY_STEP = {"noise_scale_every": 1}
FEATURES, NOISE = 60, 2.0
SLOPES = np.full(FEATURES, 0.3)


@given(
    st.integers(1, 400) | st.integers(4000, 7000), st.lists(st.integers(0, 50)), st.sampled_from(["float32", "float64"])
)
def test_a_squared_norm_has_the_same_bits_however_the_vector_is_cut(optim_arithmetic, size, cuts, dtype):
    vector, cell = np.random.default_rng(size).normal(size=size).astype(dtype), cell_entries(size)
    marks = sorted({0, size, *(cell * place for place in cuts if cell * place < size)})
    parts = [squares_of(vector[start:stop], start, size, optim_arithmetic) for start, stop in pairwise(marks)]
    found = squared_norm(reversed(parts))
    assert found == squared_norm([squares_of(vector, 0, size, optim_arithmetic)])
    assert found == pytest.approx(float(np.dot(vector.astype(float), vector.astype(float))), rel=1e-12)


@pytest.mark.parametrize(("arithmetic", "batch"), [("native", 125), ("numpy", 125), ("native", 400)])
def test_it_is_that_of_a_linear_regression_with_gaussian_inputs(arithmetic, batch):
    """With weights w, y = v x + s e and x, e ~ N(0, 1): G = 2 d with d = w - v, S = 4 ((|d|^2 + s^2) I + d d').

    125 samples are cut into 8 shards of 15 or 16.
    """
    layers = [{"type": "dense", "units": 1, "use_bias": False, "kernel_initializer": "zeros"}]
    job = make_job(
        model={"layers": layers}, loss={"name": "mse"}, train={"arithmetic": arithmetic, "metrics": [], "shards": 8}
    )
    comm = SerialCommunicator()
    replica, meter = build_replica(job, build_spec(job, (FEATURES,)), comm), NoiseScaleMeter(comm, 1)
    meter.noise = NoiseScale(decay=0.999)
    meter.on_train_begin(0, replica)
    rng = np.random.default_rng(1)
    for step in range(1500):
        x = rng.normal(size=(batch, FEATURES)).astype(np.float32)
        y = (x @ SLOPES + NOISE * rng.normal(size=batch)).astype(np.float32)[:, None]
        stats = replica.train_step(step, cut(x, y, 8), factor=0.0)
        meter.on_step(StepReport(1, step, step, replica, 0.0, stats))
    square = SLOPES @ SLOPES
    assert meter.noise.scale == pytest.approx(FEATURES + 1 + FEATURES * NOISE**2 / square, rel=0.03)
    weight = 1 - 0.999**1500
    assert meter.noise.gradient / weight == pytest.approx(4 * square, rel=0.03)
    assert meter.noise.variance / weight == pytest.approx(4 * ((FEATURES + 1) * square + FEATURES * NOISE**2), rel=0.01)


def normalized(input_shape, statistics):
    layers = [Dense(6), BatchNormalization(statistics=statistics), Dense(3)]
    return Network(layers, input_shape, "softmax")


def normalized_job(statistics):
    return {"model": {"layers": None, "entry": f"{__name__}:normalized", "options": {"statistics": statistics}}}


JOBS = {
    "penalties, dropout": {},
    "numpy": {"train": {"arithmetic": "numpy"}},
    "float64, 12 shards": {"train": {"dtype": "float64", "shards": 12}},
    "clipped by norm": {"optimizer": {"name": "adam", "clip_norm": 0.5}},
    "class weights": {"loss": {"class_weights": [1.0, 2.0, 3.0]}},
    "statistics of the batch": normalized_job("batch"),
    "statistics of the batch, numpy": normalized_job("batch") | {"train": {"arithmetic": "numpy"}},
    "statistics of the shard": normalized_job("shard"),
}
WAYS = [(2, True, 0.0), (3, True, 0.0002), (5, True, 0.0), (8, False, 0.0002), (1, True, 0.0)]
"""Ranks, optimizer_sharding, bucket_mb."""


@pytest.mark.parametrize("changes", JOBS.values(), ids=JOBS)
def test_any_number_of_ranks_finds_the_same_bits_and_trains_to_the_same_weights(changes):
    one = train(make_job(**changes, run=EVERY_STEP))
    assert one.state.facts["callbacks"][NOISE_SCALE]["variance"] != 0
    assert one.fingerprint == train(make_job(**changes, run={"noise_scale_every": 0})).fingerprint
    for ranks, sharding, bucket in WAYS:
        speed = {"optimizer_sharding": sharding, "bucket_mb": bucket}
        other = train(make_job(**changes | {"train": changes.get("train", {}) | speed}, run=EVERY_STEP), ranks)
        assert other.bits() == one.bits()  # the averages and the values of the epoch are part of them


def test_a_run_that_was_stopped_goes_on_with_its_averages():
    job = make_job(run={"noise_scale_every": 2})
    half = train(job, 2, stop_at=3)
    assert half.state.facts["callbacks"][NOISE_SCALE]["variance"] > 0
    assert train(job, 3, start=half.state).bits() == train(job).bits()


def test_a_run_of_which_nothing_was_measured_can_be_resumed():
    half = train(make_job(run={"noise_scale_every": 0}), stop_at=3)
    assert NOISE_SCALE not in half.state.facts["callbacks"]
    resumed = train(make_job(run=EVERY_STEP), 2, start=half.state)
    assert resumed.fingerprint == train(make_job()).fingerprint
    assert resumed.state.facts["callbacks"][NOISE_SCALE]["variance"] > 0


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_the_gradient_of_the_first_shard_is_that_of_its_samples_alone(arithmetic):
    layers = [{"type": "dense", "units": 4, "activation": "tanh", "kernel_l2": 0.1}, {"type": "dense", "units": 3}]
    job = make_job(
        model={"layers": layers}, loss={"name": "mse"}, train={"arithmetic": arithmetic, "metrics": [], "shards": 4}
    )
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(23, 5)).astype(np.float32), rng.normal(size=(23, 3)).astype(np.float32)
    spec, comm = build_spec(job, (5,)), SerialCommunicator()
    replica, alone = build_replica(job, spec, comm), build_replica(job, spec, comm)
    replica.measure_every = alone.measure_every = 1
    replica.train_step(0, cut(x, y, 4), factor=0.0)
    square, samples = replica.measured.of_shard
    assert samples == 23 // 4
    alone.train_step(0, cut(x[:samples], y[:samples], 4), factor=0.0)
    assert square == pytest.approx(squared_norm(alone.measured.of_batch), rel=1e-5)


@pytest.mark.parametrize("statistics", ["batch", "shard"])
def test_the_first_shard_of_a_batch_that_is_normalised_is_that_of_the_pass_over_all(statistics):
    """Where NumPy computes, no shard is computed once more."""
    rng = np.random.default_rng(4)
    load = cut(rng.normal(size=(23, 5)).astype(np.float32), rng.integers(0, 3, 23), 4)
    found, start = [], None
    for arithmetic in ("native", "numpy"):
        job = make_job(**normalized_job(statistics), train={"arithmetic": arithmetic, "shards": 4})
        replica = build_replica(job, build_spec(job, (5,)), SerialCommunicator())
        start = start or replica.weights()
        replica.load_weights(start)
        replica.measure_every = 1
        for step in range(2):
            replica.train_step(step, load, factor=0.0)
        found.append(replica.measured)
    (native, samples), (other, others) = (each.of_shard for each in found)
    assert samples == others == 5
    assert native == pytest.approx(other, rel=1e-4)
    assert squared_norm(found[0].of_batch) == pytest.approx(squared_norm(found[1].of_batch), rel=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"run": {"noise_scale_every": 0}}, {"train": {"shards": 1}}, {"run": {"noise_scale_every": 7}}],
    ids=["off", "one shard", "fewer steps"],
)
def test_nothing_is_measured_where_it_is_off_or_there_is_nothing_to_measure(changes):
    training = build(make_job(**{"run": EVERY_STEP} | changes))
    assert training.noise_scale is None
    assert NOISE_SCALE not in training.callbacks


@pytest.mark.parametrize(("every", "told"), [(1, True), (0, False), (Run().noise_scale_every, False)])
def test_who_asks_for_it_with_one_shard_is_told_that_nothing_is_measured(every, told):
    notes = build(make_job(run={"noise_scale_every": every}, train={"shards": 1})).splits.notes
    assert any("with train.shards = 1 there is one: nothing is measured" in note for note in notes) == told


def test_a_value_that_noise_hides_is_not_defined():
    noise = NoiseScale()
    assert math.isnan(noise.scale)
    noise.add((1.0, 2), (0.25, 8))
    assert noise.gradient == 0
    assert math.isnan(noise.scale)
