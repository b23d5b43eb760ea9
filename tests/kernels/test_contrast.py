"""Contrastive losses: the bits of the scalar loops on every instruction set; what the module refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from hpcnn.kernels import core as module
from hpcnn.nn.plain import NUMPY
from tests.kernels.build import build_reference
from tests.kernels.core import Core

DTYPES = st.sampled_from([np.float32, np.float64])
COLUMNS = st.one_of(st.integers(1, 40), st.sampled_from([64, 127, 200]))


def passes(core: Core, rows: int, columns: int, first: int, dtype: Any, cut: int, weights: tuple[float, float]) -> Any:
    """Return what both sides give, where the rows are dealt in two parts."""
    rng = np.random.default_rng([rows, columns])
    all_logs = rng.normal(3, 1, (columns, 2))
    logs, terms = np.full((rows, 2), np.nan), np.full(rows, np.nan)
    results = [logs, terms]
    for side in (0, 1):
        scores = rng.normal(0, 4, (rows, columns)).astype(dtype)
        fields: dict[str, Any] = {"rows": rows, "columns": columns, "first": first, "side": side}
        for task in ((0, cut), (cut, rows)):
            core.run("contrast", dtype, task, **fields, weight=weights[side], scores=scores, logs=logs, terms=terms)
            core.run("contrast_gradient", dtype, task, **fields, own_weight=weights[side],
                     other_weight=weights[1 - side], scores=scores, logs=all_logs, gradient=scores)  # fmt: skip
        results.append(scores)
    return results


@settings(deadline=None, max_examples=60)
@given(COLUMNS, DTYPES, st.sampled_from([(0.5, 0.5), (1.0, 0.0)]), st.data())
def test_the_bits_of_the_scalar_loops(
    cores: list[Core], reference: Core, columns: int, dtype: Any, weights: tuple[float, float], data: Any
) -> None:
    rows = data.draw(st.integers(0, min(columns, 6)))
    first, cut = data.draw(st.integers(0, columns - rows)), data.draw(st.integers(0, rows))
    expected = passes(reference, rows, columns, first, dtype, 0, weights)
    for core in cores:
        for ours, theirs in zip(passes(core, rows, columns, first, dtype, cut, weights), expected, strict=True):
            assert ours.tobytes() == theirs.tobytes(), core.isa


def test_another_number_of_lanes_is_noticed(cores: list[Core], kernels_folder) -> None:
    wrong = Core("reference", build_reference(kernels_folder, "-DLANES_OF_SCORES=4"))
    ours, theirs = (passes(core, 6, 200, 3, np.float64, 0, (0.5, 0.5)) for core in (cores[-1], wrong))
    assert ours[0].tobytes() != theirs[0].tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_numpy(dtype: Any) -> None:
    scores = np.random.default_rng(3).normal(0, 30, (70, 90)).astype(dtype)
    plain = scores.copy()
    logs, terms, plain_logs, plain_terms = np.zeros((70, 2)), np.zeros(70), np.zeros((70, 2)), np.zeros(70)
    for side in (0, 1):
        module.contrast(scores, 5, side, 0.5, logs, terms)
        NUMPY.contrast(plain, 5, side, 0.5, plain_logs, plain_terms)
    np.testing.assert_allclose(logs[:, 0], logsumexp(scores.astype(float), axis=1), rtol=1e-9)
    np.testing.assert_allclose(plain_logs, logs, rtol=1e-9)
    np.testing.assert_allclose(plain_terms, terms, rtol=1e-9, atol=1e-8)
    all_logs = np.full((90, 2), 100.0)
    all_logs[5:75] = logs
    all_logs[:, 1] += 20
    module.contrast_gradient(scores, all_logs, 5, 0, 0.5, 0.5, scores)
    NUMPY.contrast_gradient(plain, all_logs, 5, 0, 0.5, 0.5)
    np.testing.assert_allclose(plain, scores, rtol=1e-5, atol=1e-30)


S, LOGS, TERMS = np.zeros((3, 5), np.float32), np.zeros((3, 2)), np.zeros(3)
WRONG = {
    "axes": (lambda: module.contrast(S[0], 0, 0, 1.0, LOGS, TERMS), r"scores must be \(rows, columns\)"),
    "rows": (lambda: module.contrast(np.zeros((5, 3)), 0, 0, 1.0, LOGS, TERMS), "scores must have a column for each"),
    "first": (lambda: module.contrast(S, 3, 0, 1.0, LOGS, TERMS), "first is 3, but must be 0 to 2"),
    "side": (lambda: module.contrast(S, 0, 2, 1.0, LOGS, TERMS), "side is 2, but must be 0 to 1"),
    "weight": (lambda: module.contrast(S, 0, 0, 1.5, LOGS, TERMS), "weights must be from 0 to 1"),
    "logs": (lambda: module.contrast(S, 0, 0, 1.0, LOGS[:2], TERMS), "logs has 4 entries, but needs 6"),
    "terms": (lambda: module.contrast(S, 0, 0, 1.0, LOGS, TERMS[:2]), "terms has 2 entries, but needs 3"),
    "all logs": (
        lambda: module.contrast_gradient(S, LOGS, 0, 0, 0.5, 0.5, S),
        "logs has 6 entries, but needs 10",
    ),
    "gradient": (
        lambda: module.contrast_gradient(S, np.zeros((5, 2)), 0, 0, 0.5, 0.5, S[:2]),
        "gradient has 10 entries, but needs 15",
    ),
    "types": (
        lambda: module.contrast_gradient(S, np.zeros((5, 2)), 0, 0, 0.5, 0.5, S.astype(float)),
        "gradient must hold floats of 32 bits",
    ),
    "own weight": (
        lambda: module.contrast_gradient(S, np.zeros((5, 2)), 0, 0, -0.5, 0.5, S),
        "weights must be from 0 to 1",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_module_refuses(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call()
