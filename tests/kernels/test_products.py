"""Products, gradients of weights and sums of columns: the bits of the scalar loops, whatever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.build import build_reference
from tests.kernels.core import Core, make_shards
from tests.kernels.structures import CONSTANTS

Array = NDArray[Any]
DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.integers(1, 70)
TERMS = st.one_of(st.integers(0, 40), st.sampled_from([255, 256, 257, 512, 700]))
FUSED = st.sampled_from(["LINEAR", "RELU", "LEAKY_RELU"])
ANY_LEAVES = st.lists(
    st.lists(st.one_of(st.integers(0, 20), st.sampled_from([256, 300])), min_size=1, max_size=9), min_size=1, max_size=3
)
LONG_LEAVES = st.lists(st.lists(st.sampled_from([256, 300, 513]), min_size=1, max_size=4), min_size=1, max_size=3)
LEAVES = st.one_of(ANY_LEAVES, LONG_LEAVES)


def matrix(rng: np.random.Generator, rows: int, columns: int, dtype: Any, layout: str = "rows") -> Array:
    """Return numbers of many magnitudes; by rows with a gap behind each, by columns, or with gaps everywhere."""
    if layout == "columns":
        return matrix(rng, columns, rows, dtype).T
    every = 2 if layout == "gaps" else 1
    numbers = rng.standard_normal((rows, columns * every + 3)) * 10.0 ** rng.integers(
        -3, 3, (rows, columns * every + 3)
    )
    return numbers.astype(dtype)[:, : columns * every : every]


LAYOUTS = st.sampled_from(["rows", "columns", "gaps"])


def strides(**arrays: Array) -> dict[str, Any]:
    fields: dict[str, Any] = dict(arrays)
    for name, array in arrays.items():
        fields |= {
            f"{name}_row": array.strides[0] // array.itemsize,
            f"{name}_column": array.strides[1] // array.itemsize,
        }
    return fields


def product(core: Core, a: Array, b: Array, cuts: tuple[int, ...] = (), **fields: Any) -> tuple[Array, Array]:
    """Return the product and what is saved of it, the rows dealt as `cuts` say."""
    m, n = len(a), b.shape[1]
    c, saved = np.full((2, m, n + 2), np.nan, a.dtype)
    if fields.pop("saves", False):
        fields["saved"] = saved
    for begin, end in zip((0, *cuts), (*cuts, m), strict=True):
        core.run(
            "product", a.dtype, (begin, end), m=m, n=n, k=a.shape[1], c=c, c_row=n + 2, **strides(a=a, b=b), **fields
        )
    assert np.isnan(c[:, n:]).all(), "written past the end of a row"
    return c[:, :n].copy(), saved[:, :n].copy()


@settings(deadline=None, max_examples=60)
@given(SIZES, SIZES, TERMS, LAYOUTS, LAYOUTS, DTYPES, st.booleans(), FUSED, st.data())
def test_products_have_the_bits_of_the_scalar_loops(
    cores: list[Core],
    reference: Core,
    m: int,
    n: int,
    k: int,
    of_a: str,
    of_b: str,
    dtype: Any,
    bias: bool,
    activation: str,
    data: Any,
) -> None:
    rng = np.random.default_rng([m, n, k])
    a, b = matrix(rng, m, k, dtype, of_a), matrix(rng, k, n, dtype, of_b)
    fields: dict[str, Any] = {"activation": CONSTANTS[activation], "saves": data.draw(st.booleans())}
    if bias:
        fields["bias"] = rng.standard_normal(n).astype(dtype)
    expected = product(reference, a, b, **fields)
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, m), max_size=3))))
    for core in cores:
        for right, computed in zip(expected, product(core, a, b, cuts, **fields), strict=True):
            assert right.tobytes() == computed.tobytes(), core.isa


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(600, 70, 2048), (70, 700, 512), (33, 2048, 300), (1, 1, 1), (40, 10, 512), (40, 512, 10)]
)
@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_as_exact_as_rounding_allows(
    cores: list[Core], dtype: Any, m: int, n: int, k: int, transposed: bool
) -> None:
    rng = np.random.default_rng(3)
    a, b = matrix(rng, m, k, dtype), matrix(rng, k, n, dtype, "columns" if transposed else "rows")
    exact, sizes = a.astype(np.longdouble) @ b.astype(np.longdouble), np.abs(a).astype(float) @ np.abs(b).astype(float)
    results = [product(core, a, b)[0] for core in cores if core.isa != "scalar" or m * n * k < 10**7]
    terms = min(k, CONSTANTS["BLOCK_TERMS"]) + k // CONSTANTS["BLOCK_TERMS"] + 1  # roundings that one term can meet
    assert (np.abs(results[0] - exact) <= terms * np.finfo(dtype).eps / 2 * sizes * 1.01).all()
    assert len({result.tobytes() for result in results}) == 1


@settings(deadline=None, max_examples=40)
@given(SIZES, SIZES, LEAVES, DTYPES, st.data())
def test_gradients_of_weights_follow_the_tree_of_shards(
    cores: list[Core], reference: Core, features: int, units: int, leaves: list[list[int]], dtype: Any, data: Any
) -> None:
    rows = sum(map(sum, leaves))
    rng = np.random.default_rng([features, units, rows])
    x, dy = matrix(rng, rows, features, dtype), matrix(rng, rows, units, dtype)
    cut = data.draw(st.integers(0, units))

    def gradients(core: Core, *tasks: tuple[int, int]) -> bytes:
        kept: list[Any] = []
        shards = make_shards(leaves, kept)
        kernels = [np.full((features, units), np.nan, dtype) for _ in leaves]
        sums = [np.full((2, units), np.nan, dtype) for _ in leaves]
        step = dy.strides[0] // dy.itemsize
        for task in tasks:
            fields = {"x": x, "x_row": x.strides[0] // x.itemsize, "dy": dy, "dy_row": step, "kernel": kernels}
            core.run("weight_gradient", dtype, task, shards=shards, features=features, units=units, **fields)
            core.run(
                "column_sums", dtype, task, shards=shards, columns=units, a=dy, a_row=step, out=[s[0] for s in sums]
            )
            squares = {"a": dy, "a_row": step, "b": dy, "b_row": step, "out": [s[1] for s in sums]}
            core.run("column_sums", dtype, task, shards=shards, columns=units, **squares)
        return b"".join(array.tobytes() for array in [*kernels, *sums])

    expected = gradients(reference, (0, units))
    for core in cores:
        assert expected == gradients(core, (0, cut), (cut, units)), core.isa


@pytest.mark.parametrize("activation", ["ELU", "SELU", "GELU", "SWISH", "SOFTPLUS", "SIGMOID", "TANH"])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_an_activation_at_the_end_of_a_product_is_the_activation_after_it(
    core: Core, activation: str, layout: str
) -> None:
    rng = np.random.default_rng(6)
    a, b, bias = matrix(rng, 33, 300, np.float32), matrix(rng, 300, 70, np.float32, layout), np.ones(70, np.float32)
    y, saved = product(core, a, b, bias=bias, activation=CONSTANTS[activation], saves=True)
    z, _ = product(core, a, b, bias=bias)
    after, slopes = np.empty_like(z), np.empty_like(z)
    fields = {"slopes": slopes} if activation in ("GELU", "SWISH") else {}
    core.run("activate", np.float32, 33, rows=33, columns=70, activation=CONSTANTS[activation], z=z, y=after, **fields)
    assert saved.tobytes() == (slopes if fields else z).tobytes()
    assert y.tobytes() == after.tobytes()


def test_a_gradient_of_one_shard_is_the_product(core: Core) -> None:
    rng = np.random.default_rng(4)
    x, dy = matrix(rng, 600, 50, np.float32), matrix(rng, 600, 40, np.float32)
    kernel = np.empty((50, 40), np.float32)
    kept: list[Any] = []
    fields = {"x": x, "x_row": 53, "dy": dy, "dy_row": 43, "kernel": [kernel]}
    core.run("weight_gradient", np.float32, 40, shards=make_shards([[600]], kept), features=50, units=40, **fields)
    assert kernel.tobytes() == product(core, x.T, dy)[0].tobytes()


def test_another_length_of_blocks_is_noticed(kernels_folder: Any, reference: Core) -> None:
    """What the tests above compare would differ if a kernel cut its sums elsewhere."""
    other = Core("reference", build_reference(kernels_folder, "-DTERMS=128"))
    rng = np.random.default_rng(5)
    a, b = matrix(rng, 8, 300, np.float32), matrix(rng, 300, 8, np.float32)
    assert product(other, a, b)[0].tobytes() != product(reference, a, b)[0].tobytes()
    assert product(other, a[:, :128], b[:128])[0].tobytes() == product(reference, a[:, :128], b[:128])[0].tobytes()


def test_small_numbers_become_zero_and_nan_stays(core: Core) -> None:
    tiny, nan = np.finfo(np.float32).tiny, np.float32(np.nan)
    a = np.array([[tiny, 0], [-tiny, 0], [nan, 1], [1, 0]], np.float32)
    b = np.array([[0.5, 1], [0, 0]], np.float32)
    c, saved = product(core, a, b, saves=True, activation=CONSTANTS["RELU"])
    np.testing.assert_array_equal(c, np.array([[0, tiny], [0, 0], [nan, nan], [0.5, 1]], np.float32))
    np.testing.assert_array_equal(saved, np.array([[0, tiny], [-0.0, -tiny], [nan, nan], [0.5, 1]], np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_the_tree_is_cut_changes_no_bit_of_tiny_sums(core: Core, dtype: Any) -> None:
    """Ranks add their sums outside the kernels: what is flushed within would be missing there."""
    rng = np.random.default_rng(6)
    rows, features, units = 20, 30, 40
    x, dy = (rng.standard_normal((rows, n)).astype(dtype) for n in (features, units))
    dy *= np.finfo(dtype).tiny

    def sums(groups: list[list[int]]) -> list[Array]:
        kept: list[Any] = []
        shards = make_shards(groups, kept)
        kernels = [np.full((features + 1, units), np.nan, dtype) for _ in groups]
        fields = {"x": x, "x_row": features, "dy": dy, "dy_row": units, "kernel": kernels}
        core.run("weight_gradient", dtype, units, shards=shards, features=features, units=units, **fields)
        last = [kernel[-1] for kernel in kernels]
        core.run("column_sums", dtype, units, shards=shards, columns=units, a=dy, a_row=units, out=last)
        return kernels

    (whole,) = sums([[4, 5, 6, 5]])
    left, right = sums([[4, 5], [6, 5]])
    assert whole.tobytes() == (left + right).tobytes()
    tiny = np.abs(whole) < np.finfo(dtype).tiny
    assert tiny.any()
    assert whole[tiny].any()
