"""What every optimizer keeps: bits under cuts, no large arrays, what is not finite is told, a strict state."""

import tracemalloc
from itertools import pairwise

import msgspec
import numpy as np
import pytest

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.core.tree import tree_total
from hpcnn.errors import CheckpointError
from hpcnn.job import optimizer as job
from hpcnn.optim.build import build_optimizer
from hpcnn.optim.optimizer import NORM_BLOCK, BoundOptimizer, Optimizer
from hpcnn.optim.transforms import ClipByNorm, Parameter, ScaleByLearningRate
from tests.optim.cases import CASES, PLAIN, Bound, gradient, start

N = 3 * BLOCK + 1234
LARGE = 70_000
"""Bytes. NumPy's own buffer for a sum of float32 in float64 has 65,536."""


def steps(optimizer, params, arithmetic, *, part=slice(None), count=2.0, n_steps=2):
    """Update `params`, which are the entries `part` of N, and return them with the bound optimizer."""
    arrived = np.empty_like(params)
    bound = Bound(optimizer, params, arrived, arithmetic)
    for step in range(n_steps):
        arrived[...] = gradient(step, N)[part] * count
        assert bound.update(optimizer.step_info(step), count)
    return params, bound


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [case for case in CASES if not case.section.clip_norm], ids=lambda case: case.id)
def test_slices_cut_at_blocks_have_the_bits_of_the_whole(case, dtype, optim_arithmetic):
    optimizer = build_optimizer(case.section)
    whole, bound = steps(optimizer, start(N).astype(dtype), optim_arithmetic)
    for part in (slice(0, BLOCK), slice(BLOCK, 3 * BLOCK), slice(3 * BLOCK, N)):
        piece, cut = steps(optimizer, start(N)[part].astype(dtype), optim_arithmetic, part=part)
        assert piece.tobytes() == whole[part].tobytes()
        for name, value in cut.state.items():
            assert value.tobytes() == bound.state[name][part].tobytes(), name


def norm_rows(g, parts, arithmetic):
    """Return the rows of `parts` that the norm of `g` is added from, and the norm that transforms are given."""
    norms = []

    class Seen(ClipByNorm):
        def at(self, info, factor):
            norms.append(info.norms.updates)
            return super().at(info, factor)

    optimizer = Optimizer([Seen(1.0), ScaleByLearningRate()], 0.1)
    whole = [Parameter("all", g.shape, 0)]
    bound = BoundOptimizer(optimizer, np.zeros(g.size, g.dtype), parts, whole, arithmetic=arithmetic)
    bound.begin(optimizer.step_info(0), 3.0)
    rows = []
    for number, part in enumerate(parts):
        np.copyto(bound.gradients[number], g[part])
        assert bound.check(number)
        rows += bound.squares(number)
    assert bound.cells == list(range(0, g.size, NORM_BLOCK))
    bound.reduce(np.array(rows))
    return [row for (row,) in rows], norms[0]


@pytest.mark.parametrize("n", [1, 100, NORM_BLOCK, BLOCK, 5 * BLOCK + 3])
def test_the_norm_is_added_over_blocks_along_the_tree(n, optim_arithmetic):
    g = gradient(0, n).astype(np.float32)
    squares = [np.add.reduce(g[i : i + NORM_BLOCK] ** 2, dtype=np.float64) for i in range(0, n, NORM_BLOCK)]
    rows, norm = norm_rows(g, [slice(i, min(i + BLOCK, n)) for i in range(0, n, BLOCK)], optim_arithmetic)
    if optim_arithmetic.name == "numpy":
        assert rows == squares
    np.testing.assert_allclose(rows, squares, rtol=1e-6)
    assert norm == np.sqrt(tree_total(rows)) / 3.0
    assert norm == pytest.approx(np.linalg.norm(g.astype(np.float64)) / 3.0, rel=1e-6)


def test_the_norm_of_parts_cut_at_its_blocks_is_that_of_the_whole(optim_arithmetic):
    g = gradient(0, N).astype(np.float32)
    marks = [0, NORM_BLOCK, 3 * NORM_BLOCK, 7 * NORM_BLOCK, 10 * NORM_BLOCK, N]
    whole = norm_rows(g, [slice(0, N)], optim_arithmetic)
    assert norm_rows(g, [slice(lo, hi) for lo, hi in pairwise(marks)], optim_arithmetic) == whole


@pytest.mark.parametrize("place", [0, BLOCK, N - 1])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", [*PLAIN, *CASES[-10:]], ids=lambda case: case.id)
def test_a_gradient_that_is_not_finite_is_told_and_kept_to_be_looked_at(case, wrong, place, optim_arithmetic):
    optimizer = build_optimizer(case.section)
    arrived = gradient(0, N).astype(np.float32)
    arrived[place] = wrong
    bound = Bound(optimizer, start(N).astype(np.float32), arrived, optim_arithmetic)
    assert not bound.update(optimizer.step_info(0), 1.0)
    assert np.flatnonzero(~np.isfinite(arrived)).tolist() == [place]


@pytest.mark.parametrize("section", [job.Sgd(), job.Sgd(clip_norm=1.0), job.Adam(), job.Adam(clip_value=1.0)])
def test_a_gradient_whose_square_overflows_counts_as_not_finite(section, optim_arithmetic):
    optimizer = build_optimizer(section)
    params, arrived = np.ones(3, np.float32), np.array([1, 1e30, 1], np.float32)
    assert not Bound(optimizer, params, arrived, optim_arithmetic).update(optimizer.step_info(0), 1.0)


def test_a_constant_gradient_keeps_centered_rmsprop_finite(optim_arithmetic):
    """The mean square less the squared mean is 0 then, and below 0 by rounding."""
    optimizer = build_optimizer(job.RmsProp(centered=True))
    params, arrived = np.zeros(1000, np.float32), np.empty(1000, np.float32)
    bound = Bound(optimizer, params, arrived, optim_arithmetic)
    for step in range(300):
        arrived[...] = np.linspace(-300, 300, 1000)
        assert bound.update(optimizer.step_info(step), 1.0)
    assert np.isfinite(params).all()
    assert np.count_nonzero(params) >= 999


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_steady_update_allocates_nothing_large(case, optim_arithmetic):
    optimizer = build_optimizer(case.section)
    params, arrived = start(N).astype(np.float32), gradient(0, N).astype(np.float32)
    bound = Bound(optimizer, params, arrived, optim_arithmetic)
    assert bound.update(optimizer.step_info(0), 1.0)
    tracemalloc.start()
    try:
        assert bound.update(optimizer.step_info(1), 1.0)
        assert tracemalloc.get_traced_memory()[1] < LARGE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_state_taken_out_and_put_back_goes_on_with_the_same_bits(case, optim_arithmetic):
    optimizer = build_optimizer(case.section)
    first, bound = steps(optimizer, start(N), optim_arithmetic, n_steps=1)
    kept = {name: value.copy() for name, value in bound.state.items()}
    again = first.copy()
    arrived = np.empty(N)
    other = Bound(optimizer, again, arrived, optim_arithmetic)
    other.load_state(kept)
    arrived[...] = gradient(1, N) * 2.0
    assert other.update(optimizer.step_info(1), 2.0)
    uninterrupted, _ = steps(optimizer, start(N), optim_arithmetic, n_steps=2)
    assert again.tobytes() == uninterrupted.tobytes()


STATE = {
    job.Sgd(): [],
    job.Sgd(momentum=0.5): ["velocity"],
    job.Adam(): ["first_moment", "second_moment"],
    job.AdamW(): ["first_moment", "second_moment"],
    job.RmsProp(): ["mean_square"],
    job.RmsProp(centered=True): ["mean", "mean_square"],
    job.RmsProp(momentum=0.5): ["mean_square", "velocity"],
    job.Adagrad(): ["sum_of_squares"],
}


@pytest.mark.parametrize(("section", "names"), STATE.items(), ids=str)
def test_state_has_these_names_and_the_type_and_shape_of_the_parameters(section, names):
    params = np.ones(5, np.float32)
    bound = Bound(build_optimizer(section), params, np.zeros(5, np.float32))
    assert sorted(bound.state) == names
    for value in bound.state.values():
        assert (value.dtype, value.shape) == (params.dtype, params.shape)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"first_moment": np.zeros(5)},
        {"first_moment": np.zeros(5), "second_moment": np.zeros(4)},
        {"first_moment": np.zeros(5), "velocity": np.zeros(5)},
        {"first_moment": np.zeros(5), "second_moment": np.zeros(5), "velocity": np.zeros(5)},
    ],
    ids=lambda state: "+".join(state) or "none",
)
def test_the_state_of_another_optimizer_or_model_is_refused(state, optim_arithmetic):
    bound = Bound(build_optimizer(job.Adam()), np.ones(5), np.zeros(5), optim_arithmetic)
    with pytest.raises(CheckpointError, match=r"does not match this optimizer: the file holds .* the job needs"):
        bound.load_state(state)


def test_decay_and_the_schedules_factor_both_lower_the_rate():
    optimizer = build_optimizer(job.Sgd(learning_rate=0.5, decay=0.25))
    assert [optimizer.step_info(step).learning_rate for step in (0, 4)] == [0.5, 0.25]
    assert optimizer.step_info(4, 0.1).learning_rate == pytest.approx(0.025)
    assert build_optimizer(job.Adam(learning_rate=0.5)).step_info(4, 0.5).learning_rate == 0.25


def test_defaults_of_the_sections_are_those_of_keras():
    """Keras names other defaults than papers do; a job without options must mean the same in both."""
    assert msgspec.structs.asdict(job.Adam())["epsilon"] == 1e-7
    assert job.AdamW().weight_decay == 0.004
    assert job.RmsProp().rho == 0.9
    assert job.Adagrad().initial_accumulator_value == 0.1
