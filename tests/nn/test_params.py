"""The flat vector of parameters: where each lies, how it starts, how it is read back and identified."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hpcnn.errors import CheckpointError, ModelError
from hpcnn.nn import ParamLayout, ParamSpec
from hpcnn.nn.initializers import initializer

UNIFORM = initializer("glorot_uniform")
SPECS = [
    ParamSpec("a/kernel", (2, 3), UNIFORM),
    ParamSpec("b/kernel", (2, 3), UNIFORM, trainable=False),
    ParamSpec("c/kernel", (2, 3), UNIFORM, l2=0.1),
    ParamSpec("d/kernel", (4,), UNIFORM, trainable=False, l1=0.1),
    ParamSpec("e/kernel", (4,), UNIFORM, l1=0.1),
]


def filled(seed=0, specs=SPECS, dtype=np.float64):
    layout = ParamLayout(specs)
    vector = np.full(layout.size, np.nan, dtype)
    layout.initialize(vector, seed)
    return layout, vector


def test_the_trainable_part_comes_first():
    layout, _ = filled()
    assert layout.offsets == {"a/kernel": 0, "c/kernel": 6, "e/kernel": 12, "b/kernel": 16, "d/kernel": 22}
    assert (layout.size, layout.trainable_size) == (26, 16)
    assert [spec.name for spec in layout.penalized] == ["c/kernel", "e/kernel"]


def test_views_share_the_vectors_memory():
    layout, vector = filled()
    for name, view in layout.views(vector).items():
        view[...] = layout.offsets[name]
        assert np.shares_memory(view, vector)
    assert vector.tolist() == [0.0] * 6 + [6.0] * 6 + [12.0] * 4 + [16.0] * 6 + [22.0] * 4
    gradients = layout.gradient_views(np.arange(16.0))
    assert list(gradients) == ["a/kernel", "c/kernel", "e/kernel"]
    assert gradients["c/kernel"].tolist() == [[6, 7, 8], [9, 10, 11]]


def test_equal_shapes_start_different_and_a_seed_decides():
    layout, vector = filled()
    views = layout.views(vector)
    assert np.isfinite(vector).all()
    assert not np.isin(views["a/kernel"], views["b/kernel"]).any()
    assert (filled()[1] == vector).all()
    assert not np.isin(filled(seed=1)[1], vector).any()


def test_float32_is_float64_rounded():
    assert (filled(dtype=np.float32)[1] == filled()[1].astype(np.float32)).all()


def test_a_state_goes_round():
    layout, vector = filled()
    state = layout.state_dict(vector)
    other = np.zeros_like(vector)
    layout.load_state_dict(other, state)
    assert (other == vector).all()
    vector[...] = 0
    assert state["a/kernel"].any(), "a copy"


def test_the_fingerprint_is_of_bits_names_types_and_shapes():
    layout, vector = filled()
    prints = {layout.fingerprint(vector), filled(dtype=np.float32)[0].fingerprint(vector.astype(np.float32))}
    for specs in (
        [ParamSpec("x", (2, 3), UNIFORM), *SPECS[1:]],
        [ParamSpec("a/kernel", (3, 2), UNIFORM), *SPECS[1:]],
    ):
        prints.add(filled(specs=specs)[0].fingerprint(vector))
    changed = vector.copy()
    changed[25] = np.nextafter(changed[25], 9)
    prints.add(layout.fingerprint(changed))
    assert len(prints) == 5
    assert layout.fingerprint(vector.copy()) in prints


MESSAGES = {
    "missing": (lambda state: state.pop("a/kernel"), "are those of another model: missing a/kernel"),
    "unknown": (lambda state: state.update(z=np.zeros(1)), "are those of another model: unknown z"),
    "shape": (
        lambda state: state.update({"a/kernel": np.zeros((3, 2))}),
        "parameter 'a/kernel' has shape (3, 2) in the file, but the model needs (2, 3)",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages_of_load_leave_the_vector_alone(case):
    layout, vector = filled()
    state = layout.state_dict(vector)
    MESSAGES[case][0](state)
    before = np.full_like(vector, 7)
    with pytest.raises(CheckpointError, match=re.escape(MESSAGES[case][1])):
        layout.load_state_dict(before, state)
    assert (before == 7).all()


def test_names_must_differ():
    with pytest.raises(ModelError, match="parameter names must differ, but these appear twice: a/kernel"):
        ParamLayout([SPECS[0], SPECS[0]])
