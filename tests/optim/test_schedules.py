import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.job import optimizer as job
from hpcnn.optim.numpy_arithmetic import NUMPY
from hpcnn.optim.schedules import SCHEDULES, build_schedule
from tests.require import require

SPE, EPOCHS = 4, 5
TOTAL = SPE * EPOCHS


def cosine(share, end):
    return end + (1 - end) * (1 + math.cos(math.pi * min(share, 1))) / 2


def polynomial(share, power, end):
    return end + (1 - end) * (1 - min(share, 1)) ** power


CURVES = [
    # section, its closed form f(t, rest): t and the rest of the training in the section's unit, after the warm-up
    (job.Constant(), lambda t, rest: 1.0),
    (job.Step(every=2), lambda t, rest: 0.1 ** (t // 2)),
    (job.Step(every=3, factor=0.5), lambda t, rest: 0.5 ** (t // 3)),
    (job.Exponential(rate=0.5), lambda t, rest: 0.5**t),
    (job.Exponential(rate=0.5, length=4), lambda t, rest: 0.5 ** (t / 4)),
    (job.InverseTime(rate=0.5), lambda t, rest: 1 / (1 + 0.5 * t)),
    (job.InverseTime(rate=0.5, length=2), lambda t, rest: 1 / (1 + 0.25 * t)),
    (job.Cosine(), lambda t, rest: cosine(t / rest, 0)),
    (job.Cosine(end=0.2), lambda t, rest: cosine(t / rest, 0.2)),
    (job.Cosine(length=3), lambda t, rest: cosine(t / 3, 0)),
    (job.Cosine(length=3, end=0.1), lambda t, rest: cosine(t / 3, 0.1)),
    (job.Polynomial(), lambda t, rest: polynomial(t / rest, 1, 0)),
    (job.Polynomial(end=0.2, power=2), lambda t, rest: polynomial(t / rest, 2, 0.2)),
    (job.Polynomial(length=3, power=0.5), lambda t, rest: polynomial(t / 3, 0.5, 0)),
    (job.Polynomial(length=3, end=0.1), lambda t, rest: polynomial(t / 3, 1, 0.1)),
]
names = pytest.mark.parametrize(("section", "curve"), CURVES, ids=[str(section) for section, _ in CURVES])


def replace(section, **changes):
    return type(section)(**{name: getattr(section, name) for name in section.__struct_fields__} | changes)


def factors(section, *, spe=SPE, epochs=EPOCHS, arithmetic=NUMPY):
    schedule = build_schedule(section, steps_per_epoch=spe, epochs=epochs, arithmetic=arithmetic)
    return [schedule(step) for step in range(spe * epochs + 3)]


@pytest.mark.parametrize("unit", ["step", "epoch"])
@names
def test_curves_are_those_of_their_formulas(section, curve, unit, optim_arithmetic):
    per = SPE if unit == "epoch" else 1
    expected = [curve(step / per, TOTAL / per) for step in range(TOTAL + 3)]
    np.testing.assert_allclose(
        factors(replace(section, unit=unit), arithmetic=optim_arithmetic), expected, rtol=1e-13, atol=1e-16
    )


@pytest.mark.parametrize("begin", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("unit", "warmup"), [("step", 3), ("epoch", 1), ("epoch", 1.5)])
@names
def test_a_warm_up_rises_to_the_full_rate_and_the_curve_starts_after_it(
    section, curve, unit, warmup, begin, optim_arithmetic
):
    per = SPE if unit == "epoch" else 1
    n = int(warmup * per)
    rise = [begin + (1 - begin) * (step + 1) / n for step in range(n)]
    rest = TOTAL / per - warmup
    after = [curve(step / per, rest) for step in range(TOTAL - n + 3)]
    section = replace(section, unit=unit, warmup=warmup, warmup_start=begin)
    got = factors(section, arithmetic=optim_arithmetic)
    np.testing.assert_allclose(got, rise + after, rtol=1e-13, atol=1e-16)
    assert got[n - 1] == 1.0


@pytest.mark.parametrize("warmup", [0.1, 0.5, 2.5, 7 / 3])
def test_a_warm_up_of_no_whole_number_of_steps_never_exceeds_the_full_rate(warmup):
    got = factors(job.Constant(unit="step", warmup=warmup))
    assert max(got) == 1.0
    assert got[math.ceil(warmup) - 1 :] == [1.0] * (len(got) - math.ceil(warmup) + 1)


@pytest.mark.parametrize("section", [job.Cosine(), job.Polynomial(), job.Cosine(length=2), job.Polynomial(length=2)])
def test_a_warm_up_as_long_as_the_training_leaves_no_room_for_the_curve(section, optim_arithmetic):
    got = factors(replace(section, warmup=EPOCHS), arithmetic=optim_arithmetic)
    np.testing.assert_allclose(got[:TOTAL], [(step + 1) / TOTAL for step in range(TOTAL)])
    assert all(0 <= value <= 1 for value in got)


@given(spe=st.integers(1, 40), drop=st.integers(1, 40), unit=st.sampled_from(["step", "epoch"]))
@settings(max_examples=60, deadline=None)
def test_drops_fall_on_the_step_that_completes_the_time_in_spite_of_rounding(optim_arithmetic, spe, drop, unit):
    per = spe if unit == "epoch" else 1
    section = job.Step(unit=unit, every=drop / per, factor=0.5)
    got = build_schedule(section, steps_per_epoch=spe, epochs=9, arithmetic=optim_arithmetic)
    assert [got(step) for step in range(200)] == [0.5 ** (step // drop) for step in range(200)]


KERAS = [
    (job.Exponential(rate=0.7, length=6), "ExponentialDecay", {"decay_steps": 6, "decay_rate": 0.7}),
    (job.InverseTime(rate=0.7, length=6), "InverseTimeDecay", {"decay_steps": 6, "decay_rate": 0.7}),
    (job.Cosine(length=12, end=0.3), "CosineDecay", {"decay_steps": 12, "alpha": 0.3}),
    (job.Cosine(), "CosineDecay", {"decay_steps": TOTAL}),
    (job.Polynomial(length=12, end=0.3, power=1.5), "PolynomialDecay",
     {"decay_steps": 12, "end_learning_rate": 0.3, "power": 1.5}),
    (job.Polynomial(), "PolynomialDecay", {"decay_steps": TOTAL, "end_learning_rate": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("section", "name", "options"), KERAS, ids=[str(section) for section, _, _ in KERAS])
def test_curves_are_those_of_keras(section, name, options):
    keras = require("keras")
    theirs = getattr(keras.optimizers.schedules, name)(1.0, **options)
    expected = [float(theirs(step)) for step in range(TOTAL + 3)]
    np.testing.assert_allclose(factors(replace(section, unit="step")), expected, rtol=1e-5, atol=1e-7)


def test_a_warm_up_before_a_cosine_goes_on_as_keras():
    keras = require("keras")
    theirs = keras.optimizers.schedules.CosineDecay(0.0, 12, warmup_target=1.0, warmup_steps=5)
    got = factors(job.Cosine(unit="step", length=12, warmup=5))
    # Keras counts the warm-up from 0: its first step has no rate at all. Ours is one step ahead until the full rate.
    np.testing.assert_allclose(got[:4], [float(theirs(step + 1)) for step in range(4)], rtol=1e-6)
    np.testing.assert_allclose(got[5:], [float(theirs(step)) for step in range(5, TOTAL + 3)], rtol=1e-5, atol=1e-7)


def test_the_table_holds_every_schedule():
    assert {type(section) for section, _ in CURVES} == set(SCHEDULES)
