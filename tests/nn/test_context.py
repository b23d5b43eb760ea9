"""Scratch memory that stays, and random numbers that a key decides."""

from __future__ import annotations

import numpy as np
import pytest

from hpcnn.nn import Context


def address(array):
    return array.__array_interface__["data"][0]


def test_scratch_is_the_same_memory_each_time():
    ctx = Context()
    first = ctx.scratch("a", "x", (4, 3), np.float32)
    assert address(ctx.scratch("a", "x", (4, 3), np.float32)) == address(first)
    assert address(ctx.scratch("a", "x", (2, 3), np.float32)) == address(first)
    assert address(first) % 64 == 0


@pytest.mark.parametrize(
    "other",
    [
        ("b", "x", (4, 3), np.float32),
        ("a", "y", (4, 3), np.float32),
        ("a", "x", (4, 4), np.float32),
        ("a", "x", (5, 3), np.float32),
        ("a", "x", (4, 3), np.float64),
    ],
)
def test_scratch_differs_by_owner_use_shape_and_type(other):
    ctx = Context()
    first = ctx.scratch("a", "x", (4, 3), np.float32)
    second = ctx.scratch(*other)
    assert (second.shape, second.dtype) == other[2:]
    assert not np.shares_memory(first, second)


def test_the_key_decides_the_draws():
    def draws(key, skip=0):
        ctx = Context()
        ctx.begin(training=True, random_key=(9,))
        ctx.random.random(skip)
        ctx.begin(training=True, random_key=key)
        return ctx.random.random(4).tolist()

    assert draws((1, 2)) == draws((1, 2), skip=3)
    assert draws((1, 2)) != draws((1, 3))


@pytest.mark.parametrize("training", [True, False])
def test_begin_sets_mode_and_key(training):
    ctx = Context(training=not training)
    assert ctx.training != training
    ctx.begin(training=training, random_key=(4, 5))
    assert ctx.training == training
    assert ctx.random_key == (4, 5)
