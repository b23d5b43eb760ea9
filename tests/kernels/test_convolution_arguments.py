"""What the compiled module makes of convolutions whose arguments do not fit together."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from hpcnn.kernels import core

PLAIN = (1, 1, 1, 1, 1, 1, 1, 0, 0, 0)


def arrays(**shapes: tuple[int, ...]) -> dict[str, Any]:
    """Return x, kernel and y of a convolution, some of other shapes."""
    usual = {"x": (2, 1, 5, 5, 3), "kernel": (1, 3, 3, 3, 4), "y": (2, 1, 3, 3, 4)}
    return {name: np.zeros(shape, np.float32) for name, shape in (usual | shapes).items()}


FAULTS = {
    "ten numbers": ({}, (1,), "geometry must be a tuple of 10 numbers: groups, strides, dilations, paddings"),
    "no groups": ({}, (0, *PLAIN[1:]), "groups is 0, but must be 1 to"),
    "a stride of 0": ({}, (1, 1, 0, 1, 1, 1, 1, 0, 0, 0), "an entry of geometry is 0, but must be 1 to"),
    "padding below 0": ({}, (*PLAIN[:9], -1), "an entry of geometry is -1, but must be 0 to"),
    "a stride too large": (
        {},
        (1, 1, 1 << 30, *PLAIN[3:]),
        "an entry of geometry is 1073741824, but must be 1 to 1048576",
    ),
    "axes": ({"x": (2, 5, 5, 3)}, PLAIN, "images must be (samples, d, h, w, channels)"),
    "samples": ({"y": (3, 1, 3, 3, 4)}, PLAIN, "the kernel must be (d, h, w, channels / groups, filters)"),
    "channels": ({"x": (2, 1, 5, 5, 2)}, PLAIN, "the kernel must be (d, h, w, channels / groups, filters)"),
    "filters": ({"y": (2, 1, 3, 3, 5)}, PLAIN, "the kernel must be (d, h, w, channels / groups, filters)"),
    "a kernel without axes": (
        {"kernel": (3, 3, 3, 4)},
        PLAIN,
        "the kernel must be (d, h, w, channels / groups, filters)",
    ),
    "an empty axis": ({"x": (2, 1, 0, 5, 3)}, PLAIN, "each axis must have one entry at least"),
    "behind the image": ({"y": (2, 1, 6, 3, 4)}, PLAIN, "an output lies behind the image"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name: str) -> None:
    shapes, geometry, message = FAULTS[name]
    given = arrays(**shapes)
    with pytest.raises(ValueError, match=re.escape(message)):
        core.convolution(geometry, given["x"], given["kernel"], None, 0, given["y"], None)
    with pytest.raises(ValueError, match=re.escape(message)):
        core.convolution_input_gradient(geometry, given["y"], given["kernel"], None, 0, given["x"], None)
    shards = core.Shards([0, 1], [0, 18], [0])
    with pytest.raises(ValueError, match=re.escape(message)):
        core.convolution_weight_gradient(geometry, shards, given["x"], given["y"], (given["kernel"],))


def test_the_other_arguments() -> None:
    x, kernel, y = arrays().values()
    one = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match="bias has 1 entries, but needs 4"):
        core.convolution(PLAIN, x, kernel, one, 0, y, None)
    with pytest.raises(ValueError, match="saved has 1 entries, but needs 72"):
        core.convolution(PLAIN, x, kernel, None, 0, y, one)
    with pytest.raises(ValueError, match="bias has 1 entries, but needs 3"):
        core.convolution_input_gradient(PLAIN, y, kernel, one, 0, x, None)
    with pytest.raises(ValueError, match="activation is 10, but must be 0 to 9"):
        core.convolution(PLAIN, x, kernel, None, 10, y, None)
    with pytest.raises(ValueError, match="x must hold floats of 32 bits"):
        core.convolution(PLAIN, x.astype(float), kernel, None, 0, y, None)
    with pytest.raises(ValueError, match="dy must have the rows of the shards: samples and positions"):
        core.convolution_weight_gradient(PLAIN, core.Shards([0, 1], [0, 17], [0]), x, y, (kernel,))
    with pytest.raises(ValueError, match="kernels must be a tuple of arrays"):
        core.convolution_weight_gradient(PLAIN, core.Shards([0, 1], [0, 18], [0]), x, y, ())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kernels must be a tuple of 1 arrays"):
        core.convolution_weight_gradient(PLAIN, core.Shards([0, 1], [0, 18], [0]), x, y, (kernel, kernel))


def test_memory_that_no_machine_has_is_named() -> None:
    given = arrays(x=(1, 1, 8, 8, 24), kernel=(1, 3, 3, 24, 1), y=(1, 1, 8, 8, 1))
    geometry = (1, 1, 1, 1, 1, 1 << 20, 1 << 20, 0, 1 << 20, 1 << 20)
    message = r"needs \d{9} MB of memory of its own on each thread: .* a smaller kernel_size, dilation_rate or padding"
    with pytest.raises(MemoryError, match=message):
        core.convolution(geometry, given["x"], given["kernel"], None, 0, given["y"], None)
