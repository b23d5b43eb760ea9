"""Convolutions: the bits of products with matrices of patches, whatever computes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels.core import Core, make, make_shards
from tests.kernels.structures import CONSTANTS

Array = NDArray[Any]
DTYPES = st.sampled_from([np.float32, np.float64])
THREE = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """A convolution's shape."""

    samples: int
    inputs: THREE
    outputs: THREE
    kernel: THREE
    stride: THREE
    dilation: THREE
    before: THREE
    groups: int
    channels: int
    filters: int

    def geometry(self, kept: list[Any]) -> Any:
        """Return the structure."""
        structure = make("geometry", kept)
        for ours, name in {"inputs": "in", "outputs": "out"}.items():
            setattr(structure, name, type(getattr(structure, name))(*getattr(self, ours)))
        for name in ("kernel", "stride", "dilation", "before"):
            setattr(structure, name, type(getattr(structure, name))(*getattr(self, name)))
        structure.samples, structure.groups = self.samples, self.groups
        structure.channels, structure.filters = self.channels, self.filters
        return structure

    def arrays(self, dtype: Any) -> tuple[Array, Array, Array]:
        """Return x, the kernel and dy."""
        rng = np.random.default_rng([self.samples, *self.inputs, *self.kernel, self.channels])
        shapes = [
            (self.samples, *self.inputs, self.channels),
            (*self.kernel, self.channels // self.groups, self.filters),
            (self.samples, *self.outputs, self.filters),
        ]
        x, kernel, dy = (
            (rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 3, shape)).astype(dtype) for shape in shapes
        )
        return x, kernel, dy


@st.composite
def cases(draw: Any) -> Case:
    """Draw shapes: one to three axes, few and many channels, groups and depthwise."""
    axes = draw(st.integers(1, 3))
    longest = {1: 40, 2: 18, 3: 6}[axes]
    one = (1,) * (3 - axes)

    def each(lowest: int, highest: int, default: int) -> THREE:
        drawn = tuple(draw(st.integers(lowest, highest)) for _ in range(axes))
        return (default,) * len(one) + drawn  # type: ignore[return-value]

    inputs, kernel = each(1, longest, 1), each(1, 4, 1)
    stride, dilation, before = each(1, 3, 1), each(1, 3, 1), each(0, 4, 0)
    most = [(i + b - 1) // s + 1 for i, b, s in zip(inputs, before, stride, strict=True)]
    outputs = tuple(draw(st.integers(max(1, m - 3), m)) if m > 1 else 1 for m in most)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, filters = (groups * draw(st.sampled_from([1, 2, 3, 5, 16, 20])) for _ in range(2))
    filters = draw(st.sampled_from([filters, groups, 33 * groups]))
    if draw(st.integers(0, 3)) == 0:
        groups = channels = draw(st.sampled_from([2, 7, 16, 35]))
        filters = channels * draw(st.sampled_from([1, 1, 2, 3]))
    samples = draw(st.integers(1, 4))
    return Case(samples, inputs, outputs, kernel, stride, dilation, before, groups, channels, filters)  # type: ignore[arg-type]


def outputs(core: Core, case: Case, dtype: Any, *, back: bool, cut: float = 0, **fields: Any) -> bytes:
    """Return what an operation makes, the lines dealt at `cut` of all."""
    kept: list[Any] = []
    x, kernel, dy = case.arrays(dtype)
    like, extents, names = (x, case.inputs, ("dx", "dy")) if back else (dy, case.outputs, ("y", "x"))
    out, saved = np.full((2, like.size + 7), np.nan, dtype)
    if fields.pop("saves"):
        fields["saved"] = saved
    if fields.pop("with_bias"):
        fields["bias"] = np.linspace(-1, 1, like.shape[-1]).astype(dtype)
    lines = case.samples * extents[0] * extents[1]
    fields |= {names[0]: out, names[1]: dy if back else x, "kernel": kernel, "geometry": case.geometry(kept)}
    operation = "convolution_input_gradient" if back else "convolution"
    for task in ((0, int(cut * lines)), (int(cut * lines), lines)):
        core.run(operation, dtype, task, **fields)
    assert np.isnan(out[-7:]).all()
    return out.tobytes() + saved.tobytes()


@settings(deadline=None, max_examples=60)
@given(cases(), DTYPES, st.booleans(), st.sampled_from(["LINEAR", "RELU", "LEAKY_RELU"]), st.data())
def test_convolutions_have_the_bits_of_products_with_patches(
    cores: list[Core], reference: Core, case: Case, dtype: Any, back: bool, activation: str, data: Any
) -> None:
    fields = {"activation": CONSTANTS[activation], "back": back}
    fields |= {name: data.draw(st.booleans()) for name in ("saves", "with_bias")}
    expected = outputs(reference, case, dtype, **fields)
    for core in cores:
        assert expected == outputs(core, case, dtype, cut=data.draw(st.floats(0, 1)), **fields), core.isa


def gradients(core: Core, case: Case, dtype: Any, leaves: list[list[int]], cut: float = 0) -> bytes:
    """Return the kernels' gradients of groups of leaves with so many samples."""
    kept: list[Any] = []
    x, kernel, dy = case.arrays(dtype)
    positions = math.prod(case.outputs)
    shards = make_shards([[samples * positions for samples in group] for group in leaves], kept)
    kernels = [np.full(kernel.size + 3, np.nan, dtype) for _ in leaves]
    depthwise = case.groups > 1 and case.groups == case.channels
    tasks = case.filters if depthwise else kernel.size // case.filters
    middle = int(cut * tasks) // 16 * 16 if depthwise else int(cut * tasks)
    fields = {"shards": shards, "x": x, "dy": dy, "kernel": kernels, "geometry": case.geometry(kept)}
    for task in [(0, middle), (middle, tasks)] if cut else [(0, tasks)]:
        core.run("convolution_weight_gradient", dtype, task, **fields)
    return b"".join(each.tobytes() for each in kernels)


@settings(deadline=None, max_examples=60)
@given(cases(), DTYPES, st.data())
def test_gradients_of_kernels_follow_the_tree_of_shards(
    cores: list[Core], reference: Core, case: Case, dtype: Any, data: Any
) -> None:
    left, leaves = case.samples, [data.draw(st.sampled_from([[], [0]]))]
    while left:
        leaves[-1].append(data.draw(st.integers(1, left)))
        left -= leaves[-1][-1]
        more = data.draw(st.sampled_from(["nothing", "an empty leaf", "another group"])) if left else "nothing"
        if more != "nothing":
            leaves.append([]) if more == "another group" else leaves[-1].append(0)
    expected = gradients(reference, case, dtype, leaves)
    for core in cores:
        assert expected == gradients(core, case, dtype, leaves, data.draw(st.floats(0, 1))), core.isa


LARGE = {
    "channels": Case(2, (1, 9, 15), (1, 9, 15), (1, 3, 3), (1, 1, 1), (1, 1, 1), (0, 1, 1), 1, 70, 40),
    "one_channel": Case(3, (1, 28, 28), (1, 26, 26), (1, 3, 3), (1, 1, 1), (1, 1, 1), (0, 0, 0), 1, 1, 32),
    "long": Case(2, (1, 1, 700), (1, 1, 700), (1, 1, 3), (1, 1, 1), (1, 1, 1), (0, 0, 1), 1, 5, 17),
    "tiny_images": Case(30, (1, 3, 3), (1, 2, 2), (1, 3, 3), (1, 2, 2), (1, 1, 1), (0, 1, 1), 1, 40, 33),
    "one_output": Case(40, (1, 4, 4), (1, 1, 1), (1, 4, 4), (1, 1, 1), (1, 1, 1), (0, 0, 0), 1, 20, 10),
    "pointwise": Case(3, (1, 7, 7), (1, 7, 7), (1, 1, 1), (1, 1, 1), (1, 1, 1), (0, 0, 0), 1, 300, 50),
    "volume": Case(2, (5, 6, 7), (3, 3, 4), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1), 1, 12, 40),
    "depthwise": Case(2, (1, 20, 20), (1, 20, 20), (1, 5, 5), (1, 1, 1), (1, 1, 1), (0, 2, 2), 40, 40, 40),
    "many_taps": Case(1, (9, 9, 9), (9, 9, 9), (7, 7, 7), (1, 1, 1), (1, 1, 1), (3, 3, 3), 3, 3, 6),
}


@pytest.mark.parametrize("name", LARGE)
def test_larger_ones(cores: list[Core], reference: Core, name: str) -> None:
    case, dtype = LARGE[name], np.float32
    leaves = [[case.samples // 2, case.samples - case.samples // 2]]
    fields = {"activation": CONSTANTS["RELU"], "saves": False, "with_bias": True}
    for back in (False, True):
        expected = outputs(reference, case, dtype, back=back, **fields)
        for core in cores:
            assert expected == outputs(core, case, dtype, back=back, **fields), (core.isa, back)
    expected = gradients(reference, case, dtype, leaves)
    for core in cores:
        assert expected == gradients(core, case, dtype, leaves, 0.4), core.isa


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("activation", ["ELU", "GELU", "TANH"])
def test_an_activation_at_the_end_is_the_activation_after_it(core: Core, activation: str, groups: int) -> None:
    case = Case(1, (1, 5, 5), (1, 5, 5), (1, 3, 3), (1, 1, 1), (1, 1, 1), (0, 1, 1), groups, 3, 21)
    fused = {"activation": CONSTANTS[activation], "saves": True, "with_bias": True, "back": False}
    y, saved = np.split(np.frombuffer(outputs(core, case, np.float32, **fused), np.float32), 2)
    linear = outputs(core, case, np.float32, **fused | {"activation": 0, "saves": False})
    z = np.frombuffer(linear, np.float32)[: len(y) - 7].copy()
    after, slopes = np.empty_like(z), np.empty_like(z)
    fields = {"slopes": slopes} if activation == "GELU" else {}
    core.run("activate", np.float32, 25, rows=25, columns=21, activation=CONSTANTS[activation], z=z, y=after, **fields)
    assert y[:-7].tobytes() == after.tobytes()
    assert saved[:-7].tobytes() == (slopes if fields else z).tobytes()
