"""Penalties of weights: their value, their gradient, and that cuts of the vector change no bit of it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.training.penalty import PenaltyGradient, penalty

LAYOUT = ParamLayout([
    ParamSpec("free", (3, 4), np.zeros),
    ParamSpec("both", (5, 6), np.zeros, l1=0.3, l2=0.7),
    ParamSpec("frozen", (4,), np.zeros, trainable=False, l1=9.0, l2=9.0),
    ParamSpec("l1", (7,), np.zeros, l1=0.2),
    ParamSpec("free too", (2,), np.zeros),
    ParamSpec("l2", (2, 9), np.zeros, l2=0.1),
])  # fmt: skip
N = LAYOUT.trainable_size
RATES = {"both": (0.3, 0.7), "l1": (0.2, 0.0), "l2": (0.0, 0.1)}


def vector(dtype, seed=0):
    values = np.random.default_rng(seed).normal(size=LAYOUT.size).astype(dtype)
    values[::5] = 0  # where |w| has no slope
    return values


def value(params, arithmetic):
    spare = np.empty(max(spec.size for spec in LAYOUT.penalized), params.dtype)
    return penalty(LAYOUT, LAYOUT.views(params), spare, arithmetic)


def gradient(params, cuts, count, arithmetic):
    """Return what is added to a gradient of zeros, part by part."""
    marks = [0, *sorted(cuts), N]
    parts = [slice(lo, hi) for lo, hi in pairwise(marks)]
    result = np.zeros(N, params.dtype)
    adder = PenaltyGradient(LAYOUT, params[:N], parts, [result[part] for part in parts], arithmetic)
    for number in reversed(range(len(parts))):  # in any order
        adder.add(number, count)
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value(dtype, optim_arithmetic):
    params = vector(dtype)
    views = {name: view.astype(np.float64) for name, view in LAYOUT.views(params).items()}
    plain = sum(l1 * abs(views[name]).sum() + l2 * (views[name] ** 2).sum() for name, (l1, l2) in RATES.items())
    assert value(params, optim_arithmetic) == pytest.approx(plain, rel=1e-6 if dtype == np.float32 else 1e-13)
    assert value(np.zeros_like(params), optim_arithmetic) == 0


@pytest.mark.parametrize("rates", [{"l1": 1.0}, {"l2": 1.0}])
def test_the_sum_is_taken_in_float64(rates, optim_arithmetic):
    """In float32, 2**24 + 1 is 2**24."""
    layout = ParamLayout([ParamSpec("many", (3,), np.zeros, **rates)])
    params = np.array([2**24 if "l1" in rates else 2**12, 1, 0], np.float32)
    assert penalty(layout, layout.views(params), np.empty_like(params), optim_arithmetic) == 2**24 + 1


def test_gradient_by_hand(optim_arithmetic):
    params, count = vector(np.float64), 12.0
    expected = dict.fromkeys(LAYOUT.gradient_views(params[:N]), 0.0)
    views = LAYOUT.gradient_views(params[:N])
    for name, (l1, l2) in RATES.items():
        expected[name] = count * (l1 * np.sign(views[name]) + 2 * l2 * views[name])
    found = LAYOUT.gradient_views(gradient(params, [], count, optim_arithmetic))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], np.broadcast_to(array, found[name].shape), rtol=1e-14)


def test_gradient_is_that_of_the_value(optim_arithmetic):
    params, step = vector(np.float64) + 3, 1e-6
    direction = np.random.default_rng(1).normal(size=LAYOUT.size)
    direction[N:] = 0  # the frozen have no gradient
    ahead, behind = (value(params + sign * step * direction, optim_arithmetic) for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    assert gradient(params, [], 1.0, optim_arithmetic) @ direction[:N] == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, N), max_size=6), seed=st.integers(0, 3))
def test_parts_come_to_the_bits_of_the_whole(optim_arithmetic, dtype, cuts, seed):
    params = vector(dtype, seed)
    whole, parts = (gradient(params, each, 3.0, optim_arithmetic) for each in ([], cuts))
    assert parts.tobytes() == whole.tobytes()


def test_it_is_added_to_what_is_there_and_follows_the_weights(optim_arithmetic):
    params = vector(np.float32)
    there, found = np.arange(20, dtype=np.float32), np.empty(20, np.float32)
    adder = PenaltyGradient(LAYOUT, params[:N], [slice(10, 30)], [found], optim_arithmetic)
    for change in (0.0, 1.0):
        params += np.float32(change)
        found[...] = there
        adder.add(0, 2.0)
        np.testing.assert_allclose(found, there + gradient(params, [], 2.0, optim_arithmetic)[10:30], rtol=1e-5)


def test_no_parts_and_no_penalties(optim_arithmetic):
    assert PenaltyGradient(LAYOUT, vector(np.float32)[:N], [], [], optim_arithmetic)._terms == []
    plain = ParamLayout([ParamSpec("free", (3,), np.zeros)])
    found = np.ones(3)
    PenaltyGradient(plain, np.ones(3), [slice(0, 3)], [found], optim_arithmetic).add(0, 5.0)
    assert found.tolist() == [1, 1, 1]
