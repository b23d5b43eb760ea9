"""Recurrent cells over all their steps: the bits of the scalar loops, whatever computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpcnn.kernels import core as compiled
from tests.kernels.core import Core
from tests.kernels.structures import CONSTANTS

Array = NDArray[Any]
CELLS = ["SIMPLE_RNN", "GRU_BEFORE", "GRU_AFTER", "LSTM"]
GATES = dict(zip(CELLS, (1, 3, 3, 4), strict=True))
ACTIVATIONS = ["LINEAR", "RELU", "LEAKY_RELU", "ELU", "SELU", "GELU", "SWISH", "SOFTPLUS", "SIGMOID", "TANH"]
USUAL = "TANH", "SIGMOID"


def arrays_of(cell: str, samples: int, steps: int, units: int, last: bool, dtype: Any) -> dict[str, Array]:
    """Return all arrays of an operation; those that are only written are full of NaN."""
    rng = np.random.default_rng([samples, steps, units])
    gates, nan = GATES[cell], np.nan
    arrays = {
        "gates": rng.standard_normal((samples, steps, gates * units)),
        "kernel": rng.standard_normal((units, gates * units)) / np.sqrt(units),
        "bias": rng.standard_normal(3 * units),
        "before": np.full((samples, steps, units), nan),
        "more": np.full((samples, steps, units * (3 if cell == "GRU_AFTER" else 1)), nan),
        "y": np.full((samples, units + 2) if last else (samples, steps, units + 2), nan),
        "dy": rng.standard_normal((samples, units) if last else (samples, steps, units)),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def passes(core: Core, cell: str, arrays: dict[str, Array], cuts: tuple[int, ...], **fields: Any) -> list[bytes]:
    """Return all results of both passes, the samples dealt as `cuts` say."""
    own = {name: array.copy() for name, array in arrays.items()}
    samples, steps, units = own["before"].shape
    dtype, last = own["y"].dtype, own["y"].ndim == 2
    fields |= {"cell": CONSTANTS[cell], "samples": samples, "steps": steps, "units": units, "last": last}
    fields |= {name: own[name] for name in ("gates", "kernel", "before", "more")}
    forward = fields | {"y": own["y"], "y_sample": own["y"][0].size, "y_step": units + 2}
    if cell == "GRU_AFTER":
        forward["bias"] = own["bias"]
    back = fields | {"dy": own["dy"], "dy_sample": own["dy"][0].size, "dy_step": units}
    results = []
    for operation, settings_ in (("recurrent", forward), ("recurrent_backward", back)):
        for begin, end in zip((0, *cuts), (*cuts, samples), strict=True):
            core.run(operation, dtype, (begin, end), **settings_)
        results += [own[name].tobytes() for name in ("gates", "before", "more", "y")]
    assert np.isnan(own["y"][..., units:]).all(), "written past the end of a row"
    return results


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(CELLS),
    st.one_of(st.just(USUAL), st.tuples(st.sampled_from(ACTIVATIONS), st.sampled_from(ACTIVATIONS))),
    st.one_of(st.integers(1, 8), st.sampled_from([40, 113])),
    st.integers(1, 4),
    st.one_of(st.integers(1, 40), st.sampled_from([64, 70])),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
    st.data(),
)
def test_cells_have_the_bits_of_the_scalar_loops(
    cores: list[Core],
    reference: Core,
    cell: str,
    activations: tuple[str, str],
    samples: int,
    steps: int,
    units: int,
    backwards: bool,
    last: bool,
    dtype: Any,
    data: Any,
) -> None:
    arrays = arrays_of(cell, samples, steps, units, last, dtype)
    names = "activation", "recurrent_activation"
    fields: dict[str, Any] = {name: CONSTANTS[given] for name, given in zip(names, activations, strict=True)}
    fields["backwards"] = backwards
    expected = passes(reference, cell, arrays, (), **fields)
    cuts = tuple(sorted(data.draw(st.lists(st.integers(0, samples), max_size=2))))
    for core in cores:
        assert passes(core, cell, arrays, cuts, **fields) == expected, core.isa


@pytest.mark.parametrize("cell", CELLS)
def test_products_of_more_than_one_block_of_terms(cores: list[Core], reference: Core, cell: str) -> None:
    arrays = arrays_of(cell, 2, 2, 300, False, np.float32)
    fields = {"activation": CONSTANTS["TANH"], "recurrent_activation": CONSTANTS["SIGMOID"]}
    expected = passes(reference, cell, arrays, (), **fields)
    for core in cores:
        assert passes(core, cell, arrays, (), **fields) == expected, core.isa


@pytest.mark.parametrize("name", ["SIGMOID", "TANH"])
def test_gates_of_floats_are_as_exact_as_the_activations(cores: list[Core], name: str) -> None:
    """A cell without a past: what it keeps is its activation."""
    z = np.concatenate([np.linspace(-110, 110, 5001), np.geomspace(1e-30, 30, 500), [0.0, -0.0, np.inf, -np.inf]])
    z = z.astype(np.float32)
    wide = z.astype(np.longdouble)
    exact = 1 / (1 + np.exp(-wide)) if name == "SIGMOID" else np.tanh(wide)
    arrays = arrays_of("SIMPLE_RNN", len(z), 1, 1, True, np.float32) | {"gates": z.reshape(-1, 1, 1)}
    for core in cores:
        got = np.frombuffer(passes(core, "SIMPLE_RNN", arrays, (), activation=CONSTANTS[name])[0], np.float32)
        tiny = np.finfo(np.float32).tiny
        expected = np.where(np.abs(exact) < tiny, 0, exact)
        error = np.abs(got - expected) / np.spacing(np.maximum(np.abs(expected), tiny).astype(np.float32))
        assert error.max() < 0.6


COMBINE = {
    "COPY_ROWS": lambda a, b: a,
    "HALVE_ROWS": lambda a, b: a * a.dtype.type(0.5),
    "ADD_ROWS": lambda a, b: a + b,
    "AVERAGE_ROWS": lambda a, b: (a + b) * a.dtype.type(0.5),
    "MULTIPLY_ROWS": lambda a, b: a * b,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", COMBINE)
@pytest.mark.parametrize("columns", [1, 16, 37])
def test_rows_are_combined(core: Core, name: str, columns: int, dtype: Any) -> None:
    rng = np.random.default_rng(columns)
    a, b, y = (rng.standard_normal((5, columns + gap)).astype(dtype) for gap in (0, 1, 2))
    kept = y.copy()
    fields = {"a": a, "a_row": columns, "b": b, "b_row": columns + 1, "y": y, "y_row": columns + 2}
    for rows in ((0, 2), (2, 5)):
        core.run("combine_rows", dtype, rows, combination=CONSTANTS[name], rows=5, columns=columns, **fields)
    np.testing.assert_array_equal(y[:, :columns], COMBINE[name](a, b[:, :columns]))
    np.testing.assert_array_equal(y[:, columns:], kept[:, columns:])


def given_arrays() -> dict[str, Any]:
    arrays = arrays_of("LSTM", 3, 2, 4, False, np.float32)
    return arrays | {"y": arrays["dy"].copy()}


CHANGES = {
    "cell is 4, but must be 0 to 3": {"cell": 4},
    "activation is 10, but must be 0 to 9": {"activation": 10},
    "gates must be .samples, steps, gates units. and kernel": {"kernel": np.zeros((4, 12), np.float32)},
    "gates must have a step at least, and the columns": {"gates": np.zeros((3, 0, 16), np.float32)},
    "before has 5 entries, but needs 24": {"before": np.zeros(5, np.float32)},
    "more has 8 entries, but needs 24": {"more": np.zeros(8, np.float32)},
    "this cell needs `more`": {"more": None},
    "only GRU_AFTER has a bias": {"bias": np.zeros(12, np.float32)},
    "y and dy must have the samples, steps and units": {"y": np.zeros((3, 2, 5), np.float32)},
    "y and dy must be .samples, steps, units. or": {"y": np.zeros(24, np.float32)},
    "rows of y and dy must be contiguous": {"y": np.zeros((3, 2, 8), np.float32)[..., ::2]},
    "of the type of the gates": {"y": np.zeros((3, 2, 4))},
}


@pytest.mark.parametrize("message", CHANGES)
def test_wrong_arguments_are_refused(message: str) -> None:
    order = "cell", "activation", "recurrent_activation", "backwards", "gates", "kernel", "bias", "before", "more", "y"
    values = {"cell": 3, "activation": 9, "recurrent_activation": 8, "backwards": False} | given_arrays()
    values["bias"] = None
    compiled.recurrent(*(values[name] for name in order))
    values |= CHANGES[message]
    with pytest.raises(ValueError, match=message):
        compiled.recurrent(*(values[name] for name in order))
    if "bias" in CHANGES[message]:
        return
    with pytest.raises(ValueError, match=message):
        compiled.recurrent_backward(*(values[name] for name in order if name != "bias"))


def test_wrong_rows_are_refused() -> None:
    a = np.zeros((3, 4), np.float32)
    for arguments, message in (
        ((5, a, None, a.copy()), "combination is 5"),
        ((2, a, None, a.copy()), "sums and products need b"),
        ((0, a, a, a.copy()), "sums and products need b"),
        ((2, a, a[:2], a.copy()), "one type and shape"),
        ((0, a[:, ::2], None, a[:, :2].copy()), "their rows contiguous"),
    ):
        with pytest.raises(ValueError, match=message):
            compiled.combine_rows(*arguments)
