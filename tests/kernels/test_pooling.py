"""Pooling: the bits of plain loops, whatever the windows are."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.kernels import core as compiled
from tests.kernels.core import Core, make

DTYPES = st.sampled_from([np.float32, np.float64])


@st.composite
def axes(draw: Any) -> tuple[int, int, int, int, int]:
    """Draw (inputs, outputs, size, step, before) of an axis, such that each window has an entry."""
    inputs, size, step = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    before = draw(st.integers(0, size - 1))
    outputs = draw(st.integers(1, (inputs - 1 + before) // step + 1))
    return inputs, outputs, size, step, before


def numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return numbers with equals, zeros of both signs, tiny ones and a few that are none."""
    x = rng.integers(-3, 4, shape) * rng.choice([1.0, -0.0, 0.3, float(np.finfo(dtype).tiny) / 4], shape)
    x[rng.random(shape) < 0.01] = np.nan
    return x.astype(dtype)


@settings(deadline=None, max_examples=40)
@given(axes(), axes(), axes(), st.integers(1, 3), st.integers(1, 40), DTYPES, st.data())
def test_pooling(
    cores: list[Core], reference: Core, a: Any, b: Any, c: Any, samples: int, channels: int, dtype: Any, data: Any
) -> None:
    inputs, outputs, size, step, before = (tuple(each) for each in zip(a, b, c, strict=True))
    rng = np.random.default_rng([*inputs, *size, channels])
    x = numbers(rng, (samples, *inputs, channels), dtype)
    dy = numbers(rng, (samples, *outputs, channels), dtype)
    kept: list[Any] = []
    windows = make("windows", kept, samples=samples, channels=channels)
    for field, values in zip(
        ("in", "out", "size", "step", "before"), (inputs, outputs, size, step, before), strict=True
    ):
        for axis, value in enumerate(values):
            getattr(windows, field)[axis] = value
    cut = data.draw(st.integers(0, samples))

    def results(core: Core) -> bytes:
        y, mean = np.full_like(dy, np.nan), np.full_like(dy, np.nan)
        place, dx, share = np.full(dy.shape, -7, np.int32), np.full_like(x, np.nan), np.full_like(x, np.nan)
        for tasks in ((0, cut), (cut, samples)):
            core.run("max_pooling", dtype, tasks, windows=windows, x=x, y=y, place=place)
            core.run("max_pooling_backward", dtype, tasks, windows=windows, place=place, dy=dy, dx=dx)
            core.run("average_pooling", dtype, tasks, windows=windows, x=x, y=mean)
            core.run("average_pooling_backward", dtype, tasks, windows=windows, dy=dy, dx=share)
        arrays = [np.where(np.isnan(each), dtype(9e9), each) for each in (y, mean, dx, share)]
        return b"".join(each.tobytes() for each in [place, *arrays])

    expected = results(reference)
    for core in cores:
        assert expected == results(core), core.isa


FAULTS = {
    "axes": ({"x": np.zeros((2, 4, 3))}, r"must be \(samples, a, b, c, channels\)"),
    "channels": ({"x": np.zeros((2, 1, 1, 4, 2))}, r"must be \(samples, a, b, c, channels\)"),
    "type": ({"x": np.zeros((2, 1, 1, 4, 3), np.float32)}, "x must hold floats of 64 bits"),
    "place": ({"place": np.zeros(3, np.int32)}, "place has 3 entries"),
    "tuple": ({"size": (1, 2)}, "size must be a tuple of 3 numbers"),
    "size": ({"size": (1, 1, 0)}, "size is 0"),
    "step": ({"step": (1, 1, 0)}, "step is 0"),
    "beyond": ({"step": (1, 1, 4)}, "each window must have an entry"),
    "far": ({"step": (1, 1, 2**31 - 1)}, "each window must have an entry"),
    "early": ({"before": (0, 0, 2)}, "each window must have an entry"),
    "negative": ({"before": (0, 0, -1)}, "before is -1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_would_read_elsewhere_is_refused(fault: str) -> None:
    changes, message = FAULTS[fault]
    shape = (2, 1, 1, 2, 3)
    given_ = {
        "x": np.zeros((2, 1, 1, 4, 3)), "y": np.zeros(shape), "place": np.zeros(prod(shape), np.int32),
        "size": (1, 1, 2), "step": (1, 1, 2), "before": (0, 0, 0),
    }  # fmt: skip
    compiled.max_pooling(*given_.values())
    compiled.max_pooling_backward(*(given_[name] for name in ("place", "y", "x", "size", "step", "before")))
    with pytest.raises(ValueError, match=message):
        compiled.max_pooling(*(given_ | changes).values())
