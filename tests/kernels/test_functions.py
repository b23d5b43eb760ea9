"""Activations, losses and layer normalisation: the same bits in all variants, and the mathematics of NumPy's side."""

import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.nn.activations import ACTIVATIONS, activation
from hpcnn.nn.context import Context
from hpcnn.nn.native.base import CODES, SAVES_SLOPE
from hpcnn.nn.plain import NUMPY
from scripts import ulp_errors
from tests.kernels.structures import CONSTANTS
from tests.require import missing

DTYPES = [np.float32, np.float64]
few = settings(max_examples=25, deadline=None)
rows, columns = st.integers(0, 9), st.sampled_from([1, 2, 7, 10, 16, 17, 33, 100])


def numbers(shape, dtype, seed, spread=3.0):
    """Return normal numbers, some of them far out, tiny or 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape) * spread
    odd = rng.choice([1.0, 1.0, 1.0, 20.0, 0.0, -0.0, 1e-30], size=shape)
    return (values * odd).astype(dtype)


def activated(core, name, z):
    y = np.full_like(z, np.nan)
    core.run("activate", z.dtype, len(z), rows=len(z), columns=z.shape[1], activation=CODES[name], z=z, y=y)
    return y


def slopes_of(core, name, z):
    """Return the derivatives that are saved with the outputs, which do not depend on that."""
    y, slopes = np.full_like(z, np.nan), np.full_like(z, np.nan)
    fields = {"rows": len(z), "columns": z.shape[1], "activation": CODES[name], "z": z, "y": y, "slopes": slopes}
    core.run("activate", z.dtype, len(z), **fields)
    assert y.tobytes() == activated(core, name, z).tobytes()
    return slopes


def pulled(core, name, saved, dy):
    dz = np.full_like(dy, np.nan)
    fields = {"rows": len(dy), "columns": dy.shape[1], "activation": CODES[name], "saved": saved, "dy": dy, "dz": dz}
    for tasks in ((0, len(dy) // 2), (len(dy) // 2, len(dy))):
        core.run("activate_backward", dy.dtype, tasks, **fields)
    return dz


def test_the_codes_are_those_of_the_core():
    assert {name.upper(): code for name, code in CODES.items()}.items() <= CONSTANTS.items()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@few
@given(n=rows, width=columns, seed=st.integers(0, 99))
def test_activations(cores, name, dtype, n, width, seed):
    z, dy = numbers((n, width), dtype, seed), numbers((n, width), dtype, seed + 100)
    first = activated(cores[0], name, z)
    with np.errstate(all="ignore"):
        y, backward = activation(name)(z.astype(np.float64), Context(), "a")
        y = y.copy()
        dz = backward(dy.astype(np.float64))
    saved = slopes_of(cores[0], name, z) if name in SAVES_SLOPE else y.astype(dtype)
    slope = pulled(cores[0], name, saved, dy)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(first, y, rtol=tolerance, atol=tolerance)
    steep = saved != 0  # at 0, the two may choose another side
    np.testing.assert_allclose(slope[steep], dz[steep], rtol=30 * tolerance, atol=60 * tolerance)
    for core in cores[1:]:
        assert activated(core, name, z).tobytes() == first.tobytes(), core.isa
        assert pulled(core, name, saved, dy).tobytes() == slope.tobytes(), core.isa
        if name in SAVES_SLOPE:
            assert slopes_of(core, name, z).tobytes() == saved.tobytes(), core.isa
    for written in (first, slope):
        assert not ((written != 0) & (abs(written) < np.finfo(dtype).tiny)).any()


EXACT = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.maximum(z, 0) + np.log1p(np.exp(-abs(z))),
}


@pytest.mark.parametrize("name", EXACT)
def test_errors_of_float32_are_within_one_unit_in_the_last_place(core, name):
    """scripts/ulp_errors.py goes through all of them."""
    bits = np.arange(0, 2**32, 9973, dtype=np.uint64).astype(np.uint32)
    z = bits.view(np.float32)
    z = z[np.isfinite(z) & (abs(z) < 80)][None]
    with np.errstate(all="ignore"):
        exact = EXACT[name](z.astype(np.longdouble))
    normal = abs(exact) >= np.finfo(np.float32).tiny  # others become 0
    unit = np.spacing(abs(exact[normal]).astype(np.float32)).astype(np.float64)
    assert (abs(activated(core, name, z)[normal] - exact[normal]) / unit).max() < 1


def test_errors_of_the_functions_are_below_two_units_in_the_last_place(capfd, monkeypatch):
    """Of some numbers; the script goes through more. It also prints each special value that is not C99's."""
    if not shutil.which("cc"):
        missing("there is no C compiler (cc)")
    monkeypatch.setattr("sys.argv", ["ulp_errors", "10007"])
    ulp_errors.main()
    lines = capfd.readouterr().out.splitlines()
    errors = [re.fullmatch(r"\w+ +float(?:32|64) ([0-9.]+) ulp, at .*", line) for line in lines]
    assert len(errors) == 14
    assert all(errors), lines
    assert max(float(error[1]) for error in errors if error) < 2, lines


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(core, dtype):
    z = np.array([[np.inf, -np.inf, np.nan, 0.0, -0.0, 1e4, -1e4]], dtype)
    inf, nan = np.inf, np.nan
    expected = {
        "relu": [inf, 0, nan, 0, 0, 1e4, 0],
        "leaky_relu": [inf, -inf, nan, 0, 0, 1e4, -2e3],
        "elu": [inf, -1, nan, 0, 0, 1e4, -1],
        "softplus": [inf, 0, nan, np.log(2), np.log(2), 1e4, 0],
        "sigmoid": [1, 0, nan, 0.5, 0.5, 1, 0],
        "tanh": [1, -1, nan, 0, 0, 1, -1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(activated(core, name, z)[0], np.array(values, dtype), rtol=1e-6, err_msg=name)
    assert np.signbit(activated(core, "tanh", z)[0, 4])
    assert not np.signbit(activated(core, "relu", z)[0, 4])
    assert np.isnan(activated(core, "softmax", z)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("affine", [False, True])
@few
@given(n=rows, width=st.sampled_from([1, 2, 7, 16, 17, 100]), seed=st.integers(0, 99))
def test_layer_norm(cores, dtype, affine, n, width, seed):
    rng = np.random.default_rng(seed)
    x, dy = (rng.normal(size=(n, width)).astype(dtype) for _ in range(2))
    gamma, beta = (rng.normal(size=width).astype(dtype) for _ in range(2)) if affine else (None, None)

    def both(core):
        normal, y, inverse, dx = np.full_like(x, np.nan), np.full_like(x, np.nan), np.full(n, np.nan, dtype), dy.copy()
        shape = {"rows": n, "columns": width}
        core.run("layer_norm", dtype, n, **shape, epsilon=1e-3, x=x, gamma=gamma, beta=beta, normal=normal,
                 inverse=inverse, y=y)  # fmt: skip
        core.run("layer_norm_backward", dtype, n, **shape, normal=normal, inverse=inverse, gamma=gamma, dy=dx, dx=dx)
        return y, dx

    doubles = [None if each is None else each.astype(np.float64) for each in (x, gamma, beta)]
    y, backward = NUMPY.layer_norm(Context(), "n", *doubles, 1e-3)
    first = both(cores[0])
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(first[0], y, rtol=tolerance, atol=10 * tolerance)
    dx = backward(dy.astype(np.float64), None, None, need_dx=True)
    np.testing.assert_allclose(first[1], dx, rtol=tolerance, atol=300 * tolerance)
    for core in cores[1:]:
        assert [each.tobytes() for each in both(core)] == [each.tobytes() for each in first], core.isa


def test_the_comparison_can_fail(cores):
    """A number that differs in its last bit is noticed."""
    z = numbers((1, 100), np.float32, 1)
    assert activated(cores[0], "tanh", z).tobytes() != activated(cores[-1], "tanh", np.nextafter(z, 9)).tobytes()
