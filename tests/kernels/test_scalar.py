"""exp, log, power and cospi of single numbers: errors in ulp, exact cases, special values."""

import ctypes
import math
import random
from decimal import Decimal, localcontext

import numpy as np
import pytest

DRAWS = 1500
INF, NAN = math.inf, math.nan


@pytest.fixture
def function(cores):
    def function(name):
        found = getattr(cores[0].library, f"scalar_{name}")
        found.restype = ctypes.c_double
        found.argtypes = [ctypes.c_double] * (2 if name == "power" else 1)
        return found

    return function


def cospi(x):
    """Return cos(pi x) by its series, for |x| <= 1."""
    w = (PI * Decimal(x)) ** 2
    term = total = Decimal(1)
    for n in range(2, 80, 2):
        term *= -w / (n * (n - 1))
        total += term
    return total


PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")
EXACT = {
    "exp": lambda x: Decimal(x).exp(),
    "log": lambda x: Decimal(x).ln(),
    "power": lambda x, y: (Decimal(y) * Decimal(x).ln()).exp(),
    "cospi": cospi,
}


def ulps(found, exact):
    """Return the error in units of the last place of the exact result."""
    return float(abs(Decimal(found) - exact) / Decimal(math.ulp(float(exact))))


near_1 = lambda r: 1 + r.choice([-1, 1]) * 10 ** r.uniform(-16, -1)  # noqa: E731
CASES = [
    # function, most ulp, arguments
    ("exp", 0.501, lambda r: [r.uniform(-708, 709)]),
    ("exp", 0.501, lambda r: [r.uniform(-1, 1)]),
    ("exp", 0.501, lambda r: [r.choice([-1, 1]) * 10 ** r.uniform(-18, 0)]),
    ("exp", 1.01, lambda r: [r.uniform(-744, -708)]),
    ("log", 1, lambda r: [10 ** r.uniform(-323, 308)]),
    ("log", 1, lambda r: [r.uniform(0.5, 2)]),
    ("log", 1, lambda r: [near_1(r)]),
    ("power", 0.501, lambda r: [r.random(), r.uniform(-30, 100)]),
    ("power", 0.501, lambda r: [r.choice([0.9, 0.95, 0.99, 0.999, 0.9999]), r.randint(1, 6000)]),
    ("power", 0.501, lambda r: [near_1(r), r.uniform(-1000, 1000)]),
    ("power", 0.501, lambda r: [1 + r.uniform(-1e-12, 1e-12), r.uniform(-1e14, 1e14)]),
    ("cospi", 2, lambda r: [r.uniform(-1, 1)]),
    ("cospi", 2, lambda r: [0.5 + r.choice([-1, 1]) * 10 ** r.uniform(-16, -1)]),
]


@pytest.mark.parametrize(("name", "most", "arguments"), CASES)
def test_errors_in_ulp(function, name, most, arguments):
    generator, found = random.Random(1), function(name)
    with localcontext() as context:
        context.prec = 60
        drawn = [arguments(generator) for _ in range(DRAWS)]
        worst = max(ulps(found(*each), EXACT[name](*each)) for each in drawn if EXACT[name](*each))
    assert 0 < worst <= most


def test_powers_that_are_whole_numbers_are_exact(function):
    power = function("power")
    for base in range(-40, 41):
        for exponent in range(35):
            if abs(base**exponent) < 2**53:
                assert power(base, exponent) == base**exponent
                assert power(base**exponent, 1.0) == base**exponent
                if base:
                    assert power(base, -exponent) == 1 / base**exponent
                if base >= 0:
                    assert power(base ** (exponent // 2 * 2), 0.5) == base ** (exponent // 2)
    assert [power(2.0, n) for n in range(-1074, 1024)] == [math.ldexp(1.0, n) for n in range(-1074, 1024)]


def test_cospi_is_exact_where_the_cosine_is_0_or_1(function):
    found = [function("cospi")(x) for x in (0, 0.5, 1, 1.5, 2, 2.5, -1, -0.5, 1e20, 2.0**52 + 1, -(2.0**53))]
    assert found == [1, 0, -1, 0, 1, 0, -1, 0, 1, -1, 1]
    assert function("cospi")(1 / 3) == pytest.approx(0.5, rel=1e-15)


@pytest.mark.parametrize("whole", [2, 4, 7, 1000, 12345])
def test_cospi_has_its_period_and_symmetry(function, whole):
    found = function("cospi")
    for x in np.linspace(0, 1, 65):
        assert found(x + whole) == found(-x - whole) == (-1) ** whole * found(x)
        assert found(1 - x) == -found(x)


VALUES = [0.0, 1.0, 2.0, 3.0, 0.5, 1.5, 1e300, INF, 1e-310, 5e-324, 2.0**53 + 2, 2.0**53 - 1]
SIGNED = [*VALUES, *(-value for value in VALUES), NAN]


@pytest.mark.parametrize("x", SIGNED)
@pytest.mark.parametrize("y", SIGNED)
def test_special_values_of_powers_are_those_of_c99(function, x, y):
    try:
        expected = math.pow(x, y)
    except OverflowError:
        expected = -INF if x < 0 and y % 2 == 1 else INF
    except ValueError:  # a pole, or not a number
        expected = NAN if x else -INF if math.copysign(1, x) < 0 and y % 2 == 1 else INF
    assert same(function("power")(x, y), expected)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [("exp", INF, INF), ("exp", -INF, 0.0), ("exp", 0.0, 1.0), ("exp", -0.0, 1.0), ("exp", 709.8, INF)]
    + [("exp", -746.0, 0.0), ("exp", -744.44, 5e-324), ("exp", 1e300, INF), ("exp", -1e300, 0.0)]
    + [("log", 0.0, -INF), ("log", -0.0, -INF), ("log", -1.0, NAN), ("log", -INF, NAN), ("log", INF, INF)]
    + [("log", 1.0, 0.0), ("log", 5e-324, math.log(5e-324)), ("cospi", INF, NAN), ("cospi", -INF, NAN)]
    + [(name, NAN, NAN) for name in ("exp", "log", "cospi")],
)  # fmt: skip
def test_special_values(function, name, x, expected):
    assert same(function(name)(x), expected)


def same(found, expected):
    if math.isnan(expected):
        return math.isnan(found)
    signs = math.copysign(1, found) == math.copysign(1, expected)
    return signs and (found == expected or abs(found - expected) <= math.ulp(expected))
