"""Maps along axes, permutations, operations entry by entry, and noise: the bits of plain loops or of NumPy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.kernels import core as compiled
from tests.kernels.core import KERNEL, Core, make
from tests.kernels.structures import CONSTANTS
from tests.kernels.test_pooling import numbers

DTYPES = st.sampled_from([np.float32, np.float64])
BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def flushed(x: Any) -> Any:
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(1, 40), DTYPES, st.data())
def test_maps(
    cores: list[Core], reference: Core, outer: int, terms: list[int], inner: int, dtype: Any, data: Any
) -> None:
    length, rows = data.draw(st.integers(1, 6)), len(terms)
    rng = np.random.default_rng([outer, inner, *terms])
    start = np.cumsum([0, *terms])
    index = data.draw(st.sampled_from([np.arange(start[-1]) % length, rng.integers(0, length, start[-1])]))
    weight = rng.choice([1.0, 1.0, 0.3], len(index)).astype(dtype)
    x = numbers(rng, (outer, length * inner + 3), dtype)
    cut = data.draw(st.integers(0, outer * rows))

    def mapped(core: Core) -> bytes:
        y = np.full((outer, rows * inner + 5), 7, dtype)
        for tasks in ((0, cut), (cut, outer * rows)):
            core.run(
                "map_axis", dtype, tasks, outer=outer, rows=rows, inner=inner, start=start, index=index,
                weight=weight, x=x, x_outer=x.shape[1], y=y, y_outer=y.shape[1],
            )  # fmt: skip
        return bytes(np.where(np.isnan(y), dtype(9e9), y).tobytes())

    expected = mapped(reference)
    for core in cores:
        assert expected == mapped(core), core.isa


@settings(deadline=None, max_examples=80)
@given(st.lists(st.sampled_from([1, 2, 3, 5, 17, 33]), min_size=1, max_size=4), DTYPES, st.data())
def test_permutations_are_copies(shape: list[int], dtype: Any, data: Any) -> None:
    axes = data.draw(st.permutations(range(len(shape))))
    step = data.draw(st.sampled_from([1, 2, -1]))
    x = (
        np.arange(np.prod(shape) * 2, dtype=dtype)
        .reshape(*shape[:-1], -1)[..., ::step][..., : shape[-1]]
        .transpose(axes)
    )
    y = np.full(x.shape, np.nan, dtype)
    compiled.permute(x, y)
    np.testing.assert_array_equal(y, x)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([1, 3, 17, 34]), min_size=3, max_size=3), DTYPES)
def test_every_instruction_set_permutes(cores: list[Core], shape: list[int], dtype: Any) -> None:
    """As the binding does: (n, a, b) to (n, b, a)."""
    n, a, b = shape
    x = np.arange(n * a * b, dtype=dtype).reshape(n, a, b)
    for core in cores:
        y = np.full((n, b, a), np.nan, dtype)
        operation = make("permute", [], axes=3, x=x, y=y)
        for axis, values in enumerate([(n, a * b, a * b), (b, 1, a), (a, b, 1)]):
            operation.shape[axis], operation.stride[axis], operation.y_stride[axis] = values
        kernel = core.function(KERNEL, f"permute_{core.isa}_{y.itemsize * 8}")
        kernel(ctypes.byref(operation), 0, n, None)
        np.testing.assert_array_equal(y, x.transpose(0, 2, 1))


@BOTH
@pytest.mark.parametrize("size", [1, 5, 64, 300])
def test_products_and_the_larger_of_two(core: Core, size: int, dtype: Any) -> None:
    rng = np.random.default_rng(size)
    x1, x2, dy = (numbers(rng, (size,), dtype) for _ in range(3))
    y, dx1, dx2 = (np.full(size, 7, dtype) for _ in range(3))
    core.run("combine", dtype, size, size=size, kind=CONSTANTS["MULTIPLY"], x1=x1, x2=x2, y=y)
    np.testing.assert_array_equal(y, flushed(x1 * x2))
    core.run("combine", dtype, size, size=size, kind=CONSTANTS["MAXIMUM"], x1=x1, x2=x2, y=y)
    np.testing.assert_array_equal(y, np.maximum(x1, x2))
    core.run("add_relu", dtype, size, size=size, x1=x1, x2=x2, y=y)
    total = flushed(x1 + x2)
    np.testing.assert_array_equal(y, np.where(total <= 0, dtype(0), total))
    core.run("add_relu_backward", dtype, size, size=size, y=x1, dy=dy, dx1=dx1, dx2=dx2)
    for dx in (dx1, dx2):
        np.testing.assert_array_equal(dx, np.where(x1 > 0, flushed(dy), dtype(0)))
    core.run("maximum_backward", dtype, size, size=size, x1=x1, x2=x2, dy=dy, dx1=dx1, dx2=dx2)
    second = ~np.isnan(x1) & ~(x2 <= x1)
    np.testing.assert_array_equal(dx1, np.where(second, dtype(0), dy))
    np.testing.assert_array_equal(dx2, np.where(second, dy, dtype(0)))
    core.run("scaled", dtype, size, size=size, factor=1 / 3, x=dy, y=y)
    np.testing.assert_array_equal(y, flushed(dy * dtype(1 / 3)))


@BOTH
@pytest.mark.parametrize("kinked", [0, 1])
@pytest.mark.parametrize("one", [0, 1])
@pytest.mark.parametrize("columns", [1, 5, 70])
def test_rectifiers(core: Core, columns: int, one: int, kinked: int, dtype: Any) -> None:
    rng = np.random.default_rng(columns)
    x, dy = numbers(rng, (4, columns), dtype), numbers(rng, (4, columns), dtype)
    alpha = rng.normal(size=1 if one else columns).astype(dtype)
    y, dx, share = (np.full_like(x, 7) for _ in range(3))
    fields = {"rows": 4, "columns": columns, "x": x, "alpha": alpha, "alpha_is_one": one}
    core.run("prelu", dtype, 4, y=y, **fields)
    np.testing.assert_array_equal(y, flushed(np.where(x > 0, x, x * alpha)))
    core.run("prelu_backward", dtype, 4, dy=dy, dx=dx, share=share, kinked=kinked, **fields)
    sloped = ~(x > 0) if kinked else x < 0
    np.testing.assert_array_equal(dx, flushed(np.where(x > 0, dy, np.where(sloped, dy * alpha, dtype(0)))))
    np.testing.assert_array_equal(share, flushed(np.where(x < 0, dy * x, dtype(0))))


@BOTH
@pytest.mark.parametrize("channels", [1, 6, 300])
def test_spatial_dropout_keeps_the_channels_that_dropout_keeps(core: Core, channels: int, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, channels)).astype(dtype)
    y, kept = np.full_like(x, 7), np.full((3, channels), np.nan, dtype)
    place = make("dropout_place", [], first_sample=20, step=7)
    fields = {"samples": 3, "rate": 0.3, "seed": 2**40 + 5, "stream": 11, "place": place}
    core.run("spatial_dropout", dtype, (0, 1), positions=4, channels=channels, x=x, y=y, **fields)
    core.run("spatial_dropout", dtype, (1, 3), positions=4, channels=channels, x=x, y=y, **fields)
    core.run("dropout", dtype, 3, columns=channels, x=np.ones_like(kept), y=kept, **fields)
    np.testing.assert_array_equal(y, np.where(kept[:, None], x * dtype(1 / (1 - 0.3)), dtype(0)))


@BOTH
@pytest.mark.parametrize("columns", [1, 7, 600])
def test_noise_is_made_of_the_numbers_of_sample_and_entry(core: Core, columns: int, dtype: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, columns)).astype(dtype)
    y, normal = np.full_like(x, 7), np.empty((3, columns))
    place = make("dropout_place", [], first_sample=20, step=7)
    fields = {"samples": 3, "columns": columns, "deviation": 0.3, "seed": 2**40 + 5, "stream": 11, "place": place}
    core.run("gaussian_noise", dtype, (0, 2), x=x, y=y, **fields)
    core.run("gaussian_noise", dtype, (2, 3), x=x, y=y, **fields)
    number = core.library.random_normal_of
    number.argtypes = [ctypes.c_uint64, *[ctypes.c_uint32] * 4, ctypes.c_void_p, ctypes.c_int64]
    for sample in range(3):
        number(2**40 + 5, 11, 20 + sample, 7, 0, normal[sample].ctypes.data, columns)
    assert y.tobytes() == (x + 0.3 * normal).astype(dtype).tobytes()


def test_normal_numbers_of_the_first_sample_and_step_are_those_of_a_stream(core: Core) -> None:
    numbers_, stream = np.empty(9), np.empty(9)
    number = core.library.random_normal_of
    number.argtypes = [ctypes.c_uint64, *[ctypes.c_uint32] * 4, ctypes.c_void_p, ctypes.c_int64]
    number(5, 3, 0, 0, 4, numbers_.ctypes.data, 9)
    compiled.normal(5, 3, 4, stream)
    np.testing.assert_array_equal(numbers_, stream)


X, Y = np.zeros((2, 4, 3)), np.zeros((2, 3, 3))
START, INDEX, WEIGHT, PLACE = np.arange(4), np.arange(3), np.ones(3), np.zeros(2, np.uint32)
FAULTS = {
    "map_shapes": (lambda: compiled.map_axis(X[:1], Y, START, INDEX, WEIGHT), r"x must be \(outer, length, inner\)"),
    "map_type": (lambda: compiled.map_axis(X.astype("f"), Y, START, INDEX, WEIGHT), "of one type"),
    "map_gaps": (lambda: compiled.map_axis(X[:, :, ::2], Y[:, :, ::2], START, INDEX, WEIGHT), "C-ordered but for"),
    "map_overlap": (
        lambda: compiled.map_axis(
            X, np.lib.stride_tricks.as_strided(Y, (2, 3, 3), (8, 24, 8)), START, INDEX, WEIGHT), "C-ordered but for",
    ),
    "map_index": (lambda: compiled.map_axis(X, Y, START, INDEX + 2, WEIGHT), "a row that x does not have"),
    "map_index_below": (lambda: compiled.map_axis(X, Y, START, INDEX - 1, WEIGHT), "a row that x does not have"),
    "map_start": (lambda: compiled.map_axis(X, Y, START + 1, INDEX, WEIGHT), "start must begin at 0"),
    "map_order": (lambda: compiled.map_axis(X, Y, np.array([0, 2, 1, 3]), INDEX, WEIGHT), "start must ascend"),
    "map_rows": (lambda: compiled.map_axis(X, Y, START[:3], INDEX, WEIGHT), "start has 3 entries"),
    "map_weight": (lambda: compiled.map_axis(X, Y, START, INDEX, WEIGHT[:2]), "weight has 2 entries"),
    "permute": (lambda: compiled.permute(X, Y), "of one type and shape"),
    "permute_none": (lambda: compiled.permute(np.zeros(()), np.zeros(())), "one axis at least"),
    "combine": (lambda: compiled.combine(0, X, Y, Y), "x1 has 24 entries"),
    "kind": (lambda: compiled.combine(2, Y, Y, Y), "kind is 2"),
    "maximum": (lambda: compiled.maximum_backward(Y, Y, Y, X, None), "dx1 has 24 entries"),
    "scaled": (lambda: compiled.scaled(X, 1.0, Y), "x has 24 entries"),
    "alpha": (lambda: compiled.prelu(Y, np.zeros(4), Y), "must be a multiple of that of alpha"),
    "no_alpha": (lambda: compiled.prelu(Y, np.zeros(0), Y), "must be a multiple of that of alpha"),
    "share": (lambda: compiled.prelu_backward(Y, np.zeros(3), Y, None, X, False), "share has 24 entries"),
    "spatial": (lambda: compiled.spatial_dropout(WEIGHT, WEIGHT, 0.5, 1, 1, PLACE), "two axes at least"),
    "noise": (lambda: compiled.gaussian_noise(X, Y, 0.5, 1, 1, PLACE), "x has 24 entries"),
    "place": (lambda: compiled.gaussian_noise(Y, Y, 0.5, 1, 1, PLACE[:1]), "place has 1 entries"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_read_elsewhere_is_refused(fault: str) -> None:
    call, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        call()
