"""Numbers in two bytes, against a table of all that there are."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.exchange.formats import FORMATS
from hpcnn.comm.protocol import Array
from tests.comm.rounding import bits_to_number, middles, nearest, numbers

KINDS = sorted(FORMATS)
DTYPES = [np.float32, np.float64]


def rounded(kind: str, values: Array) -> Array:
    """Return what is left of `values` after the wire."""
    form, out = FORMATS[kind](values.dtype), np.empty_like(values)
    for start in range(0, values.size, BLOCK):
        part = slice(start, start + BLOCK)
        wire = form.empty(values[part].size)
        with np.errstate(all="ignore"):
            form.encode(values[part], wire)
            form.decode(wire, out[part])
    return out


def assert_same(got: Array, expected: Array) -> None:
    """The same bits; any NaN is as good as another."""
    known = ~np.isnan(expected)
    assert np.isnan(got[~known]).all()
    assert got[known].tobytes() == expected[known].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_is_that_of_the_format(kind: str) -> None:
    values = numbers(kind)
    assert (np.diff(values) > 0).all()
    sizes = {"bf16": (3.3895313892515355e38, 2.0**-133, 1.0), "fp16": (65504.0, 2.0**-24, 1.0)}
    assert (values[-1], values[1], values[{"bf16": 0x3F80, "fp16": 0x3C00}[kind]]) == sizes[kind]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_that_two_bytes_can_say_survives(kind: str, dtype: type) -> None:
    values = bits_to_number(kind, np.arange(65536)).astype(dtype)
    assert np.isnan(values).sum() == 65536 - 2 * (numbers(kind).size + 1)
    assert_same(rounded(kind, values), values)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_even_one_and_what_is_beside_a_tie_to_the_nearer(kind: str, dtype: type) -> None:
    ties = middles(kind).astype(dtype)
    if kind == "fp16" or dtype == np.float32:
        ties = ties[ties.astype(np.float64) == middles(kind)]  # half of the smallest number may be none of the type
    assert ties.size >= numbers(kind).size - 1
    for sign in (1, -1):
        for values in (sign * ties, np.nextafter(sign * ties, dtype(0)), np.nextafter(sign * ties, dtype(np.inf))):
            assert_same(rounded(kind, values), nearest(kind, values))
    largest = rounded(kind, np.array([ties[-1], np.nextafter(ties[-1], dtype(0))]))
    assert largest.tolist() == [np.inf, numbers(kind)[-1] if kind == "fp16" or dtype == np.float32 else np.inf]


@pytest.mark.parametrize("kind", KINDS)
def test_random_bits_are_rounded_to_the_nearest(kind: str) -> None:
    random = np.random.default_rng(3)
    values = random.integers(0, 2**32, 300_000, dtype=np.uint32).view(np.float32)
    assert np.isnan(values).any()
    assert (np.abs(values[values != 0]) < 2**-126).any()
    assert_same(rounded(kind, values), nearest(kind, values))
    usual = random.standard_normal(300_000) * 10.0 ** random.integers(-9, 5, 300_000)
    for dtype in DTYPES:
        assert_same(rounded(kind, usual.astype(dtype)), nearest(kind, usual.astype(dtype)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stays_so(kind: str) -> None:
    bits = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000, 0x7F800000, 0xFF800000], np.uint32)
    values = np.append(bits.view(np.float32), np.array([-0.0, 1e30], np.float32))
    got = rounded(kind, values)
    assert np.isnan(got[:5]).all()
    assert got[5:7].tolist() == [np.inf, -np.inf]
    assert (got[7], np.signbit(got[7])) == (0, True)
    assert got[8] == (np.inf if kind == "fp16" else nearest("bf16", values)[8])


def test_fp16_against_the_standard_library() -> None:
    values = np.random.default_rng(4).uniform(-70, 70, 3000) ** 3
    values = values[np.abs(values) < 65000].astype(np.float32)
    expected = [struct.unpack("<e", struct.pack("<e", value))[0] for value in values.tolist()]
    assert rounded("fp16", values).tolist() == expected
