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


STEPS, LABELS, CLASSES = np.zeros((2, 3, 4)), np.zeros((2, 5), np.int64), np.zeros((2, 3), np.int64)
TERMS = np.zeros(2)
REFUSED = {
    "slopes": (lambda: core.activate(9, TERMS, TERMS, TERMS), "slopes are those of gelu and swish"),
    "kind": (lambda: core.loss(17, False, *ARRAYS, *SETTINGS), "kind is 17, but must be 0 to 16"),
    "ignore": (
        lambda: core.loss(5, False, STEPS, CLASSES, None, None, None, TERMS, *SETTINGS[:-1], 2**70),
        "too (lar|bi)",
    ),
    "inputs": (lambda: core.ctc(np.zeros((2, 4)), LABELS, None, None, None, TERMS), "inputs must be .samples, steps"),
    "no steps": (lambda: core.ctc(np.zeros((2, 0, 4)), LABELS, None, None, None, TERMS), "one of each at least"),
    "labels": (lambda: core.ctc(STEPS, np.zeros(10, np.int64), None, None, None, TERMS), "labels must be .samples"),
    "rows": (lambda: core.ctc(STEPS, LABELS[:1], None, None, None, TERMS), "labels must be .samples, length"),
    "length": (lambda: core.ctc(STEPS[:0], np.zeros((0, 2**17), int), None, None, None, TERMS[:0]), "of 65536 at most"),
    "type": (lambda: core.ctc(STEPS, LABELS.astype(np.int32), None, None, None, TERMS), "labels must hold integers"),
    "order": (lambda: core.ctc(STEPS, np.asfortranarray(LABELS), None, None, None, TERMS), "labels must be C-ordered"),
    "weights": (lambda: core.ctc(STEPS, LABELS, np.zeros(3), None, None, TERMS), "weights has 3 entries, but needs"),
    "outputs": (lambda: core.ctc(STEPS, LABELS, None, np.zeros(23), None, TERMS), "outputs has 23 entries, but needs"),
    "gradient": (lambda: core.ctc(STEPS, LABELS, None, None, np.zeros(23), TERMS), "gradient has 23 entries, but"),
    "terms": (lambda: core.ctc(STEPS, LABELS, None, None, None, np.zeros(3)), "terms has 3 entries, but needs 2"),
}
ARRAYS = (np.zeros((2, 3)), np.zeros((2, 3)), None, None, None, np.zeros(2))
SETTINGS = (0.0, 1.0, 0.0, 0.0, None)


@pytest.mark.parametrize("name", REFUSED)
def test_losses_whose_arrays_do_not_fit_are_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises((ValueError, OverflowError), match=message):
        call()


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
