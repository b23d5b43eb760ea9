"""Activations that are computed again in the backward pass: the same bits, in less memory."""

import tracemalloc

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import JobError
from hpcnn.job.checks import check_job
from hpcnn.nn import Add, BatchNormalization, Dense, Dropout, LayerNorm, Network, Residual, Shared
from hpcnn.runs.build import build_replica, build_spec
from tests.small_jobs import cut, make_job, train

STATISTICS = {"native": ["none", "batch", "shard"], "numpy": ["none", "batch", "shard"]}


def network(input_shape, statistics, shared):
    """Return a network in which much crosses from one segment to another."""

    def norm():
        return LayerNorm() if statistics == "none" else BatchNormalization(momentum=0.75, statistics=statistics)

    layers = [Dense(6, activation="tanh", name="a"), Dropout(0.2), norm(), Dense(6, activation="gelu", name="b")]
    layers += [Residual([norm(), Dropout(0.3), Dense(6, activation="relu")]), Add(inputs=("residual_1", "a"))]
    layers += [Shared("b") if shared else Dense(6), norm(), Residual([Dense(6, activation="tanh"), norm()])]
    return Network([*layers, Add(inputs=("residual_2", "b")), Dense(3)], input_shape, "softmax")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("arithmetic", "statistics"), [(name, each) for name, kinds in STATISTICS.items() for each in kinds]
)
def test_the_bits_are_those_of_keeping_them(arithmetic, statistics, shared):
    model = {"layers": None, "entry": f"{__name__}:network", "options": {"statistics": statistics, "shared": shared}}
    results = set()
    for again in (False, True):
        settings = {"arithmetic": arithmetic, "checkpoint_activations": again}
        for ranks in (1, 3):
            results.add(train(make_job(model=model, train=settings), ranks).fingerprint)
    assert len(results) == 1


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_metrics_are_those_of_keeping_them(arithmetic):
    """Behind a linear head they are computed of the logits, once the pass back is done."""
    layers = [*[{"type": "dense", "units": 9, "activation": "tanh"}] * 6, {"type": "dense", "units": 1}]
    values = []
    for again in (False, True):
        settings = {"arithmetic": arithmetic, "checkpoint_activations": again, "metrics": ["mae", "r2"]}
        job = make_job(
            data={"kind": "linear", "classes": None},
            model={"layers": layers},
            loss={"name": "mse"},
            train=settings,
        )
        values.append([report.values for report in train(job).reports])
    assert values[0] == values[1]


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_it_takes_less_memory(arithmetic):
    layers = [{"type": "dense", "units": 64, "activation": "tanh"}] * 25
    x, y = np.ones((1024, 64), np.float32), np.zeros(1024, np.int64)
    peaks = []
    for again in (False, True):
        job = make_job(
            model={"layers": [*layers, {"type": "dense", "units": 3, "activation": "softmax"}]},
            train={"shards": 1, "arithmetic": arithmetic, "checkpoint_activations": again},
        )
        replica = build_replica(job, build_spec(job, (64,)), SerialCommunicator())
        tracemalloc.start()
        replica.train_step(0, cut(x, y, 1), factor=1.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    output = x.nbytes
    assert peaks[0] > 40 * output  # each layer's output and gradient
    assert peaks[1] < 0.5 * peaks[0]


def test_segments_cover_the_network_and_are_about_as_many_as_the_root_of_its_layers():
    layers = [Dense(4) for _ in range(30)]
    deep = Network(layers, (4,))
    deep.recompute_activations()
    assert [place for segment in deep.segments for place in segment] == list(range(30))
    assert len(deep.segments) == 5
    assert max(map(len, deep.segments)) <= 7
    uneven = Network([Dense(1000), *layers], (4,))
    uneven.recompute_activations()
    assert uneven.segments[0] == range(1)
    one = Network([Dense(3)], (4,))
    one.recompute_activations()
    assert one.segments == [range(1)]


def test_keras_mode_has_it_in_its_own_models():
    job = msgspec.structs.replace(make_job(train={"checkpoint_activations": True}), backend="keras")
    with pytest.raises(JobError, match=r"train.checkpoint_activations = true is for NumPy mode.*keras\.RematScope"):
        check_job(job)
