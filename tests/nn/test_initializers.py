"""The distributions that parameters start from."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcnn.errors import ModelError
from hpcnn.nn.initializers import INITIALIZERS, initializer

SHAPE = (300, 100)
VARIANCES = {
    "glorot_uniform": 2 / 400,
    "glorot_normal": 2 / 400,
    "he_uniform": 2 / 300,
    "he_normal": 2 / 300,
    "lecun_uniform": 1 / 300,
    "lecun_normal": 1 / 300,
    "orthogonal": 1 / 300,
    "random_uniform": 0.1**2 / 12,
    "zeros": 0,
    "ones": 0,
}


def draw(name, shape=SHAPE, seed=0):
    return initializer(name)(shape, np.random.default_rng(seed))


def test_every_initializer_has_a_variance():
    assert VARIANCES.keys() == INITIALIZERS.keys()


@pytest.mark.parametrize("name", VARIANCES)
def test_mean_and_variance(name):
    values = draw(name)
    assert values.shape == SHAPE
    assert values.dtype == np.float64
    assert np.var(values) == pytest.approx(VARIANCES[name], rel=0.02)
    assert np.mean(values) == pytest.approx(float(name == "ones"), abs=5e-4)


@pytest.mark.parametrize("name", [name for name in VARIANCES if name.endswith("uniform")])
def test_uniform_limits(name):
    limit = np.sqrt(3 * VARIANCES[name])
    assert 0.999 * limit < np.abs(draw(name)).max() <= limit


@pytest.mark.parametrize("name", [name for name in VARIANCES if name.endswith("normal")])
def test_normals_are_cut_off_at_two_deviations_before_the_correction(name):
    limit = 2 * np.sqrt(VARIANCES[name]) / 0.87962566103423978
    assert 0.995 * limit < np.abs(draw(name)).max() <= limit


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 3, 4)])
def test_orthogonal(shape):
    matrix = draw("orthogonal", shape).reshape(-1, shape[-1])
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    np.testing.assert_allclose(tall.T @ tall, np.eye(tall.shape[1]), atol=1e-14)


def test_orthogonal_is_uniform_over_rotations():
    assert np.mean([draw("orthogonal", (2, 2), seed)[0, 0] for seed in range(400)]) == pytest.approx(0, abs=0.1)


def test_orthogonal_needs_a_matrix():
    with pytest.raises(ModelError, match=re.escape("needs at least two axes, but the parameter has shape (3,)")):
        draw("orthogonal", (3,))


@pytest.mark.parametrize("shape", [(), (4,), (3, 2, 4, 5)])
def test_fans_of_other_shapes(shape):
    fan_in, fan_out = {(): (1, 1), (4,): (4, 4), (3, 2, 4, 5): (24, 30)}[shape]
    values = np.array([draw("glorot_uniform", shape, seed) for seed in range(300)])
    assert values.max() == pytest.approx(np.sqrt(6 / (fan_in + fan_out)), rel=0.02)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ModelError, match=r"unknown initializer 'he_norml'\. Did you mean 'he_normal'\?"):
        initializer("he_norml")
