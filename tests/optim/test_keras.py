"""Every optimizer and option against Keras 3, the oracle that nobody here wrote."""

import numpy as np
import pytest

from hpcnn.optim.build import build_optimizer
from tests.keras_type import keras_type
from tests.optim.cases import CASES, NORM, VALUE, Bound, Case, gradient, start
from tests.require import require

N = 40
STEPS = {"float64": 50, "float32": 15}


@pytest.fixture(scope="module")
def keras():
    return require("keras")


@pytest.fixture(params=["float64", "float32"])
def dtype(request, keras):
    with keras_type(keras, request.param):
        yield request.param


def keras_optimizer(keras, case: Case, dtype: str):
    options = case.keras_options(dtype)
    decay = options.pop("decay", 0.0)
    if decay:
        schedule = keras.optimizers.schedules.InverseTimeDecay(options["learning_rate"], 1, decay)
        options["learning_rate"] = schedule
    return getattr(keras.optimizers, case.keras)(**options)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_after_one_and_many_steps_the_weights_are_those_of_keras(case, dtype, keras, optim_arithmetic):
    optimizer = build_optimizer(case.section)
    params, arrived = start(N).astype(dtype), np.empty(N, dtype)
    bound = Bound(optimizer, params, arrived, optim_arithmetic)
    theirs, variable = keras_optimizer(keras, case, dtype), keras.Variable(params.copy(), dtype=dtype)
    tolerance = 1e-10 if dtype == "float64" else 1e-5
    for step in range(STEPS[dtype]):
        new, count = gradient(step, N).astype(dtype), 1 + step % 4
        arrived[...] = new * count
        assert bound.update(optimizer.step_info(step), count)
        theirs.apply([new], [variable])
        if step in (0, STEPS[dtype] - 1):
            np.testing.assert_allclose(params, np.asarray(variable), rtol=tolerance, atol=tolerance)
    assert not np.allclose(params, start(N), rtol=1e-3, atol=0)


def test_the_clips_of_the_table_clip_some_gradients_and_leave_others():
    norms = [np.linalg.norm(gradient(step, N)) for step in range(STEPS["float32"])]
    assert min(norms) < NORM < max(norms)
    values = np.abs([gradient(step, N) for step in range(STEPS["float32"])])
    assert values.min() < VALUE < values.max()
