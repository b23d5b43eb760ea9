"""What the compiled module makes of arguments that its own callers would not give it."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from hpcnn.kernels import core


def test_an_array_without_axes_is_one_message() -> None:
    one, place = np.zeros(()), np.zeros(2, np.uint32)
    with pytest.raises(ValueError, match="y must have one axis at least"):
        core.dropout(one, one, 0.5, 1, 1, place)
    with pytest.raises(ValueError, match="y must have one axis at least"):
        core.standardize(one, one, one, one)


def test_an_update_keeps_its_states_whatever_becomes_of_the_list() -> None:
    class State(np.ndarray):
        """Can be referred to weakly."""

    state = np.zeros(3).view(State)
    gone = weakref.ref(state)
    links = [(4, 0, 3, state, None)]  # momentum
    update = core.Update(np.ones(3), np.zeros(3), links)
    links.clear()
    del state
    gc.collect()
    assert gone() is not None
    update.run(np.array([0.9, 1, 0, 0, 0]))
    np.testing.assert_array_equal(gone(), np.ones(3))
