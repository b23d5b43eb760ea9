"""Every optimizer and option against its textbook formula on whole vectors, for sizes that do not fill blocks."""

import numpy as np
import pytest

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.optim.build import OPTIMIZERS, build_optimizer
from tests.optim.cases import CASES, Bound, gradient, start

SIZES = (1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 13)
STEPS = 3


def clipped(g, section):
    norm = np.sqrt((g**2).sum())
    if section.clip_norm:
        g = g * min(1, section.clip_norm / norm)
    return g.clip(-section.clip_value, section.clip_value) if section.clip_value else g


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_weights_are_those_of_the_formula(case, n, optim_arithmetic):
    section = case.section
    params, arrived = start(n), np.empty(n)
    optimizer = build_optimizer(section)
    bound, plain, state = Bound(optimizer, params, arrived, optim_arithmetic), params.copy(), {}
    for step in range(STEPS):
        g, factor, count = gradient(step, n), 1 - 0.1 * step, 3.0
        arrived[...] = g * count
        assert bound.update(optimizer.step_info(step, factor), count)
        rate = section.learning_rate * factor / (1 + getattr(section, "decay", 0) * step)
        plain -= case.plain(state, step, rate, clipped(g, section), plain, section)
    np.testing.assert_allclose(params, plain, rtol=1e-12, atol=1e-14)
    assert not np.array_equal(params, start(n))


def test_the_table_holds_every_optimizer_each_alone_and_with_each_clip():
    for clips in ((False, False), (True, False), (False, True)):
        held = {type(c.section) for c in CASES if (c.section.clip_norm > 0, c.section.clip_value > 0) == clips}
        assert held == set(OPTIMIZERS)


def test_both_clips_together_limit_the_norm_first(optim_arithmetic):
    case = CASES[2].with_clips(clip_norm=1.0, clip_value=0.5)
    optimizer = build_optimizer(case.section)
    params, arrived = np.zeros(2), np.array([30.0, 40.0])
    assert Bound(optimizer, params, arrived, optim_arithmetic).update(optimizer.step_info(0), 1.0)
    np.testing.assert_allclose(params, [-0.1 * 0.5, -0.1 * 0.5])  # from (0.6, 0.8), not from (0.5, 0.5)
