"""What the compiled module makes of arguments that its own callers would not give it."""

from __future__ import annotations

import array
import gc
import mmap
import threading
import time
import weakref

import numpy as np
import pytest
from numpy.typing import NDArray

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


# ----------------------------------------------------------------------------------------- memory that others may free

FLOATS = 4096


class Pages(mmap.mmap):
    """Memory that whoever has it can give back, unless a buffer of it is in use."""

    def __new__(cls) -> Pages:
        return super().__new__(cls, -1, 8 * FLOATS)


def given() -> tuple[Pages, memoryview]:
    pages = Pages()
    return pages, memoryview(pages).cast("d")


def test_a_program_holds_the_memory_of_its_arrays() -> None:
    x, y = np.ones(FLOATS), np.ones(FLOATS)
    pages, view = given()
    program = core.Program()
    program.add(x, y, view)
    for gone in (view.release, pages.close):
        with pytest.raises(BufferError, match="exported"):
            gone()
    program.run()
    assert memoryview(pages).cast("d")[FLOATS - 1] == 2
    del program
    view.release()
    pages.close()


def test_arrays_of_a_program_keep_their_size() -> None:
    program = core.Program()
    x, y = array.array("d", [1.0] * FLOATS), np.ones(FLOATS)
    program.add(x, np.ones(FLOATS), y)
    with pytest.raises(BufferError, match="cannot resize"):
        del x[1:]
    with pytest.raises(ValueError, match="cannot resize"):
        y.resize(1)
    program.run()
    assert y[FLOATS - 1] == 2


def test_a_refused_operation_holds_nothing() -> None:
    pages, view = given()
    with pytest.raises(ValueError, match="x2 has 1 entries"):
        core.Program().add(view, np.ones(1), np.ones(FLOATS))
    with pytest.raises(ValueError, match="x2 has 1 entries"):
        core.add(view, np.ones(1), np.ones(FLOATS))
    core.add(view, view, np.ones(FLOATS))
    assert core.find_not_finite(view, False) == -1
    core.uniform(1, 2, 3, view)
    view.release()
    pages.close()


def test_an_update_holds_the_memory_of_its_arrays() -> None:
    pages, view = given()
    update = core.Update(np.ones(FLOATS), np.zeros(FLOATS), [(4, 0, FLOATS, view, None)])  # momentum
    for gone in (view.release, pages.close):
        with pytest.raises(BufferError, match="exported"):
            gone()
    update.run(np.array([0.9, 1, 0, 0, 0]))
    del update
    view.release()
    pages.close()


NUMBERS = {
    "map_axis": lambda numbers: (X, Y, numbers[:3], numbers[3:], np.ones(2)),
    "cell_sums": lambda numbers: (np.ones(2), numbers[:3], np.ones(2), False),
    "fold": lambda numbers: ((np.ones(2), np.ones(2)), numbers[3:], np.ones(2)),
}
X, Y = np.ones((1, 2, 1)), np.ones((1, 2, 1))


@pytest.mark.parametrize("operation", NUMBERS)
def test_indices_are_those_that_were_checked(operation: str) -> None:
    """What becomes of the array later changes no result, and reads and writes nothing far away."""
    numbers = np.array([0, 1, 2, 0, 1])
    arrays = NUMBERS[operation](numbers)
    program = core.Program()
    getattr(program, operation)(*arrays)
    program.run()
    out = arrays[1] if operation == "map_axis" else arrays[2]
    expected = out.copy()
    numbers[:] = 2**40
    out[:] = 0
    if operation == "fold":
        arrays[0][0][:] = 1  # which took the sum
    program.run()
    np.testing.assert_array_equal(out, expected)


class Number:
    """Does as it likes while the arguments are checked."""

    def __init__(self) -> None:
        self.asked = False

    def __float__(self) -> float:
        self.asked = True
        return 0.5

    __index__ = __float__  # type: ignore[assignment]


def test_numbers_that_run_code_are_refused() -> None:
    number, place = Number(), np.zeros(2, np.uint32)
    with pytest.raises(TypeError, match="factor must be a float or an int"):
        core.scaled(np.ones(3), number, np.ones(3))
    with pytest.raises(TypeError, match="stream must be an int"):
        core.dropout(np.ones(3), np.ones(3), 0.5, 1, number, place)
    assert not number.asked


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.1, np.nan, np.inf])
def test_rates_of_dropout_are_below_1(rate: float) -> None:
    x, y, place = np.ones((2, 3)), np.ones((2, 3)), np.zeros(2, np.uint32)
    for operation in (core.dropout, core.spatial_dropout):
        with pytest.raises(ValueError, match="rate must be 0 at least, and below 1"):
            operation(x, y, rate, 1, 1, place)


def test_noise_has_a_deviation() -> None:
    x, y, place = np.ones((2, 3)), np.ones((2, 3)), np.zeros(2, np.uint32)
    with pytest.raises(ValueError, match="deviation must be 0 or more"):
        core.gaussian_noise(x, y, np.nan, 1, 1, place)


def test_a_program_that_runs_can_not_be_added_to() -> None:
    large = np.ones((512, 2048), np.float32)
    program, out = core.Program(), np.empty((512, 512), np.float32)
    for _ in range(20):
        program.product(large, large.T, out, None, 0, None)
    with pytest.raises(RuntimeError, match="a program that runs can't be added to"):
        add_while_it_runs(program, out)


def add_while_it_runs(program: core.Program, out: NDArray[np.float32]) -> None:
    for _ in range(20):  # on a busy machine a run may be over before it is seen
        thread = threading.Thread(target=program.run)
        thread.start()
        try:
            while thread.is_alive():
                program.add(out, out, out)
                time.sleep(0.0001)
        finally:
            thread.join()
