"""Networks by name in Keras mode, against NumPy mode."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.errors import JobError
from hpcnn.job.load import load_job
from hpcnn.models.build import build_network
from tests.keras.modes import keras_backend
from tests.models.cases import SMALL, batch_of, section
from tests.mpi.launch import ROOT
from tests.nn.helpers import normal
from tests.nn.two_modes import same


@pytest.fixture(scope="module", autouse=True)
def backend():
    with keras_backend() as started:
        yield started


@pytest.mark.parametrize("case", SMALL)
def test_outputs(case):
    from hpcnn.backends.keras.layers import to_keras
    from hpcnn.nn import Context

    network = build_network(section(case), SMALL[case][1])
    params = network.layout.views(abs(0.3 * normal(network.layout.size, seed=5)))
    x, _ = batch_of(case, network, n=3)
    ctx = Context()
    logits, _ = network.forward(params, x, ctx)
    expected = network.head_forward(logits, ctx)
    model, names = to_keras(network, "float64")
    for variable in model.variables:
        if id(variable) in names:
            variable.assign(params[names[id(variable)]])
    same(np.asarray(model(x, training=False)), expected, "float64")


@pytest.mark.parametrize(
    "options", [["model.name=resnet"], ["model.name=vgg", "model.options.batch_normalization=true"]]
)
def test_statistics_of_the_whole_batch_are_refused(options):
    job = ROOT / "jobs" / "digits_mlp.toml"
    changes = ["model={}", *options, "backend=keras"]
    with pytest.raises(JobError, match=r'model.options.statistics = "batch" is for NumPy mode'):
        load_job(job, changes)
    for change in ("model.options.statistics=shard", "train.shards=1"):
        load_job(job, [*changes, change])
    load_job(job, ["model={name='vgg'}", "backend=keras"])
