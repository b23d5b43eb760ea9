"""When a step is done: within `finish`, or on a thread that goes as far as it is told."""

from __future__ import annotations

import gc
import queue
import threading

import numpy as np
import pytest

from hpcnn.comm.exchange.exchange_thread import ExchangeThread
from hpcnn.system.denormals import FlushDenormals
from tests.timing import WAIT_S

NOT_YET_S = 0.05
"""For what must not."""


class Steps:
    """Does steps that touch the entries from 20 on, then from 10 on, then all, and says how far each has come."""

    def __init__(self, *, threaded: bool) -> None:
        self.thread = ExchangeThread(threaded=threaded)
        self._done: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.on: list[threading.Thread] = []

    def start(self) -> None:
        """Begin a step."""
        self.thread.start(self._run)

    def _run(self) -> bool:
        self.on.append(threading.current_thread())
        for start in (20, 10, 0):
            self.thread.wait_for(start)
            self._done.put(start)
        return len(self.on) % 2 == 0

    def done(self, count: int) -> list[int]:
        """Return the next `count` marks that the step came past, and check that it waits then."""
        marks = [self._done.get(timeout=WAIT_S) for _ in range(count)]
        with pytest.raises(queue.Empty):
            self._done.get(timeout=NOT_YET_S)
        return marks


def test_a_step_on_a_thread_goes_as_far_as_is_ready() -> None:
    steps = Steps(threaded=True)
    for _ in range(3):  # what was ready in one step is not so in the next
        steps.start()
        assert steps.done(0) == []
        steps.thread.ready(21)
        assert steps.done(0) == []
        steps.thread.ready(20)
        assert steps.done(1) == [20]
        steps.thread.ready(3)
        assert steps.done(1) == [10]
        steps.thread.ready(0)
        assert steps.done(1) == [0]
        assert steps.thread.finish() is (len(steps.on) % 2 == 0)
    assert len(set(steps.on)) == 1
    assert steps.on[0] is not threading.current_thread()


def test_finish_means_that_all_is_ready() -> None:
    steps = Steps(threaded=True)
    steps.start()
    steps.thread.finish()
    assert steps.done(3) == [20, 10, 0]


def test_without_a_thread_the_step_is_done_by_finish() -> None:
    steps = Steps(threaded=False)
    steps.start()
    steps.thread.ready(0)
    assert steps.done(0) == []
    steps.thread.finish()
    assert steps.done(3) == [20, 10, 0]
    assert steps.on == [threading.current_thread()]


def test_the_way_may_change_between_steps() -> None:
    steps = Steps(threaded=True)
    for threaded in (True, False, True, False):
        steps.thread.threaded = threaded
        steps.start()
        steps.thread.ready(10)
        assert steps.done(2 if threaded else 0) == [20, 10][: 2 if threaded else 0]
        steps.thread.finish()
        assert (steps.on[-1] is threading.current_thread()) is not threaded
        assert steps.done(1 if threaded else 3)[-1] == 0


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_errors_are_raised_by_finish_and_the_next_step_is_done(threaded: bool, error: type[BaseException]) -> None:
    fails = [True, False, True, False]
    done = []

    def run() -> bool:
        if fails[len(done)]:
            raise error("in the step")
        return True

    thread = ExchangeThread(threaded=threaded)
    for wrong in fails:
        thread.start(run)
        if wrong:
            with pytest.raises(error, match="in the step"):
                thread.finish()
        else:
            thread.finish()
        done.append(wrong)


@pytest.mark.parametrize("threaded", [False, True])
def test_arithmetic_is_the_same_on_the_thread_as_in_training(threaded: bool) -> None:
    """Training may flush denormal numbers and is silent about overflow; both are settings of a thread."""
    results: list[np.ndarray] = []

    def run() -> bool:
        results.append(np.array([1e-38, 1e38], np.float32) * np.array([0.1, 1e10], np.float32))
        return True

    thread = ExchangeThread(threaded=threaded)
    with np.errstate(all="ignore"):
        thread.start(run)  # a thread begins with the settings of the one that starts it
        thread.finish()
        with FlushDenormals() as flush:
            thread.start(run)
            thread.finish()
        thread.start(run)
        thread.finish()
    small = np.float32(1e-38) * np.float32(0.1)
    assert [result[0] for result in results] == [small, 0.0 if flush.active else small, small]
    assert [result[1] for result in results] == [np.inf] * 3


def test_the_thread_goes_with_its_exchange() -> None:
    """A program may train a thousand times: each exchange has a thread, which must not keep it."""
    thread = ExchangeThread(threaded=True)
    thread.start(lambda: True)
    thread.finish()
    running = thread._thread
    assert running is not None
    del thread
    gc.collect()
    running.join(WAIT_S)
    assert not running.is_alive()
