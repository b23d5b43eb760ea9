"""Normalisations: the bits of the scalar loops on every instruction set; what the module refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.kernels import core as module
from hpcnn.nn import Context
from hpcnn.nn.plain import NUMPY
from tests.kernels.build import build_reference
from tests.kernels.core import Core, make, make_shards

DTYPES = st.sampled_from([np.float32, np.float64])
COLUMNS = st.one_of(st.integers(1, 20), st.sampled_from([31, 64, 127, 128, 200]))
LEAVES = st.lists(
    st.lists(st.one_of(st.integers(0, 30), st.sampled_from([128, 300])), min_size=1, max_size=6), min_size=1, max_size=3
)


def numbers(rng: np.random.Generator, rows: int, columns: int, dtype: Any) -> Any:
    sizes = 10.0 ** rng.integers(-3, 3, (rows, columns))
    return (rng.standard_normal((rows, columns)) * sizes + 1).astype(dtype)


def cut(data: Any, tasks: int) -> list[tuple[int, int]]:
    place = data.draw(st.integers(0, tasks))
    return [(0, place), (place, tasks)]


def passes(core: Core, leaves, columns: int, dtype: Any, cuts, *, batch: bool, affine: bool, relu: bool) -> list[bytes]:
    """Return all results of a pass forward and back over leaves, whose tasks are dealt as `cuts` say."""
    kept: list[Any] = []
    shards = make_shards(leaves, kept)
    sizes = [rows for group in leaves for rows in group]
    starts, rows = np.cumsum([0, *sizes], dtype=np.int64), sum(sizes)
    rng = np.random.default_rng([rows, columns])
    x, dy = numbers(rng, rows, columns, dtype), numbers(rng, rows, columns, dtype)
    shift, gamma, beta = numbers(rng, 3, columns, dtype)
    own = make("segments", kept, count=len(sizes), start=starts)
    used = make("segments", kept, count=1, each=max(1, rows)) if batch else own
    by_row, of_rows = (0, 1) if batch else (2 * columns, len(sizes))
    moments = np.abs(numbers(rng, of_rows, 2 * columns, np.float64))
    slopes = numbers(rng, of_rows, 2 * columns, np.float64)
    sums = np.full((len(sizes), 1 + 2 * columns), np.nan)
    products = np.full((len(sizes), 2 * columns), np.nan)
    y, dx, plain_dx = (np.full_like(x, np.nan) for _ in range(3))
    outs = [np.full(columns, np.nan, dtype) for _ in leaves]
    scales = {"gamma": gamma} if affine else {}
    both = {"relu": int(relu)} | (scales | {"beta": beta} if affine else {})
    fields: dict[str, Any] = {"columns": columns, "moments": moments, "moments_row": by_row}
    for task in cuts[0]:
        core.run("channel_sums", dtype, task, segments=own, columns=columns, x=x, shift=shift, sums=sums)
        core.run("channel_products", dtype, task, segments=own, x=x, dy=dy, sums=products, **fields, **both)
    for task in cuts[1]:
        core.run("normalize", dtype, task, segments=used, rows=rows, x=x, y=y, **fields, **both)
        back: dict[str, Any] = {"segments": used, "rows": rows, "x": x, "dy": dy, **fields, **scales}
        core.run("normalize_backward", dtype, task, slopes=slopes, dx=dx, **back | both)
        core.run("normalize_backward", dtype, task, dx=plain_dx, **back)
    for task in cuts[2]:
        core.run("leaf_sums", dtype, task, shards=shards, columns=columns,
                 terms=dy.astype(np.float64), terms_row=columns, out=outs)  # fmt: skip
    return [each.tobytes() for each in (sums, products, y, dx, plain_dx, *outs)]


@settings(deadline=None, max_examples=60)
@given(LEAVES, COLUMNS, DTYPES, st.booleans(), st.booleans(), st.booleans(), st.data())
def test_channels_have_the_bits_of_the_scalar_loops(
    cores: list[Core],
    reference: Core,
    leaves,
    columns: int,
    dtype: Any,
    batch: bool,
    affine: bool,
    relu: bool,
    data: Any,
) -> None:
    tasks = (sum(map(len, leaves)), sum(map(sum, leaves)), columns)
    expected = passes(
        reference, leaves, columns, dtype, [[(0, n)] for n in tasks], batch=batch, affine=affine, relu=relu
    )
    cuts = [cut(data, n) for n in tasks]
    for core in cores:
        assert passes(core, leaves, columns, dtype, cuts, batch=batch, affine=affine, relu=relu) == expected, core.isa


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 70), st.integers(1, 5), st.integers(1, 9), DTYPES, st.data())
def test_groups_have_the_bits_of_the_scalar_loops(
    cores: list[Core], reference: Core, samples: int, positions: int, groups: int, width: int, dtype: Any, data: Any
) -> None:
    columns = groups * width
    x = numbers(np.random.default_rng([samples, positions]), samples * positions, columns, dtype)

    def moments_by(core: Core, *tasks: tuple[int, int]) -> bytes:
        moments = np.full((samples, 2 * columns), np.nan)
        for task in tasks:
            core.run("group_moments", dtype, task, samples=samples, positions=positions, columns=columns,
                     groups=groups, epsilon=1e-3, x=x, moments=moments)  # fmt: skip
        return moments.tobytes()

    expected = moments_by(reference, (0, samples))
    for core in cores:
        assert moments_by(core, *cut(data, samples)) == expected, core.isa


def test_another_number_of_lanes_is_noticed(cores: list[Core], kernels_folder) -> None:
    wrong = Core("reference", build_reference(kernels_folder, "-DLANES_OF_ROWS=4"))
    cuts, leaves = [[(0, 2)], [(0, 80)], [(0, 5)]], [[40, 40]]
    options: dict[str, Any] = {"batch": True, "affine": True, "relu": False}
    assert passes(cores[-1], leaves, 5, np.float32, cuts, **options)[0] != passes(
        wrong, leaves, 5, np.float32, cuts, **options
    )[0]  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), COLUMNS, DTYPES)
def test_moments_and_slopes_are_the_same_everywhere(cores: list[Core], rows: int, columns: int, dtype: Any) -> None:
    rng = np.random.default_rng([rows, columns])
    sums = np.abs(numbers(rng, rows, 1 + 2 * columns, np.float64))
    sums[0, 0], sums[:, 1 + columns] = 0, 0
    shift, variance, gamma = np.abs(numbers(rng, 3, columns, dtype))
    results = set()
    for core in cores:
        moments, given_moments = np.full((rows, 2 * columns), np.nan), np.full((1, 2 * columns), np.nan)
        fields: dict[str, Any] = {"columns": columns, "epsilon": 1e-3, "shift": shift}
        core.run("channel_moments", dtype, rows, rows=rows, sums=sums, moments=moments, **fields)
        core.run("channel_moments", dtype, 1, rows=1, variance=variance, moments=given_moments, **fields)
        slopes = sums[:, 1:].copy()
        core.run("channel_slopes", dtype, rows, rows=rows, columns=columns, group=columns, counts=sums,
                 counts_row=1 + 2 * columns, sums=slopes, moments=moments, gamma=gamma, slopes=slopes)  # fmt: skip
        results.add(moments.tobytes() + given_moments.tobytes() + slopes.tobytes())
    assert len(results) == 1
    count = np.maximum(sums[:, :1], 1)
    offset = sums[:, 1 : 1 + columns] / count
    exact = 1 / np.sqrt(np.maximum(sums[:, 1 + columns :] / count - offset * offset, 0) + 1e-3)
    np.testing.assert_allclose(moments, np.hstack([shift + offset, exact]), rtol=1e-13)
    np.testing.assert_allclose(given_moments[0, columns:], 1 / np.sqrt(variance.astype(float) + 1e-3), rtol=1e-13)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5), COLUMNS, DTYPES, st.integers(0, 9))
def test_rms_norm(cores: list[Core], n: int, width: int, dtype: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, dy, scale = numbers(rng, n, width, dtype), numbers(rng, n, width, dtype), numbers(rng, 1, width, dtype)[0]
    results = []
    for core in cores:
        normal, y, dx, inverse = np.empty_like(x), np.empty_like(x), dy.copy(), np.empty(n, dtype)
        shape = {"rows": n, "columns": width, "normal": normal, "inverse": inverse, "scale": scale}
        core.run("rms_norm", dtype, n, epsilon=1e-3, x=x, y=y, **shape)
        core.run("rms_norm_backward", dtype, n, dy=dx, dx=dx, **shape)
        results.append((y, dx, normal, inverse))
    assert len({b"".join(each.tobytes() for each in result) for result in results}) == 1
    expected, backward = NUMPY.rms_norm(Context(), "n", x.astype(float), scale.astype(float), 1e-3)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(results[0][0], expected, rtol=20 * eps)
    expected_dx = backward(dy.astype(float), None, need_dx=True)
    terms = np.abs(dy.astype(float) * scale).max() * results[0][3].max()  # of the difference that dx is
    np.testing.assert_allclose(results[0][1], expected_dx, rtol=100 * eps, atol=20 * eps * terms)


ONE = module.Shards([0, 1], [0, 4], [0])
X, MOMENTS = np.zeros((4, 3), np.float32), np.zeros((1, 6))
REFUSED = {
    "rows of shards": (lambda: module.channel_sums(ONE, X[:3], X[0], np.zeros((1, 7))), "the rows of the shards"),
    "no segments": (lambda: module.channel_sums(None, X, X[0], np.zeros((1, 7))), "shards must be a Shards"),
    "segment": (lambda: module.channel_sums(3, X, X[0], np.zeros((1, 7))), "must be a multiple of those of a segment"),
    "segment 0": (lambda: module.normalize(0, X, MOMENTS, None, None, False, X), "segments is 0, but must be 1 to"),
    "sums": (lambda: module.channel_sums(2, X, X[0], np.zeros((1, 7))), "sums must have one row for each segment"),
    "wide sums": (lambda: module.channel_sums(4, X, X[0], np.zeros((1, 6))), "sums must be (rows, 7)"),
    "shift": (lambda: module.channel_sums(4, X, X[0, :2], np.zeros((1, 7))), "shift has 2 entries, but needs 3"),
    "no columns": (lambda: module.channel_sums(4, X[:, :0].copy(), X[0, :0], np.zeros((1, 1))), "x must have columns"),
    "moments": (
        lambda: module.normalize(1, X, np.zeros((2, 6)), None, None, False, X),
        "moments must have one row, or one",
    ),
    "moments of floats": (
        lambda: module.normalize(4, X, X, None, None, False, X),
        "moments must hold floats of 64 bits",
    ),
    "gamma": (lambda: module.normalize(4, X, MOMENTS, X[0, :2], None, False, X), "gamma has 2 entries, but needs 3"),
    "dy": (
        lambda: module.channel_products(4, X, X[1:], MOMENTS, None, None, False, np.zeros((1, 6))),
        "dy has 9 entries, but needs 12",
    ),
    "slopes": (
        lambda: module.normalize_backward(2, X, X, MOMENTS, np.zeros((2, 6)), None, None, False, X),
        "slopes must have the rows of moments",
    ),
    "variance": (lambda: module.channel_moments(None, X[0], None, MOMENTS, 1e-3), "give either sums or a variance"),
    "rows of moments": (
        lambda: module.channel_moments(np.zeros((2, 7)), X[0], None, MOMENTS, 1e-3),
        "moments must have one row for each of sums, or one",
    ),
    "counts": (
        lambda: module.channel_slopes(np.zeros(2), MOMENTS, MOMENTS, None, np.zeros((1, 6)), 1),
        "counts must be one number, or one for each row",
    ),
    "group": (
        lambda: module.channel_slopes(np.ones(1), MOMENTS, MOMENTS, None, np.zeros((1, 6)), 2),
        "columns must be a multiple of those of a group",
    ),
    "groups": (lambda: module.group_moments(X[None], 2, MOMENTS, 1e-3), "columns must be a multiple of groups"),
    "samples": (lambda: module.group_moments(X, 1, MOMENTS, 1e-3), "x must be (samples, positions, columns)"),
    "terms": (lambda: module.leaf_sums(ONE, np.zeros((3, 3)), (X[0],)), "terms must be (rows, columns) of float64"),
    "outs": (lambda: module.leaf_sums(ONE, np.zeros((4, 3)), ()), "outs must be a tuple of arrays"),
    "scale": (lambda: module.rms_norm(X, X[0, :2], X, np.zeros(4, np.float32), X, 1e-3), "scale has 2 entries"),
    "inverse": (lambda: module.rms_norm(X, X[0], X, np.zeros(3, np.float32), X, 1e-3), "inverse has 3 entries"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case: str) -> None:
    call, message = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        call()
