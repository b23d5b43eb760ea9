import multiprocessing
import os
import queue
import signal
import threading
import time
import weakref
from types import SimpleNamespace

import pytest

from hpcnn.core import stop_request as stop
from hpcnn.core.stop_request import SIGNALS, StopRequest
from tests.timing import WAIT_S, wait_until


class Leaving:
    """Takes down why and how a request would end the job."""

    def __init__(self):
        self._calls = queue.SimpleQueue()

    def __call__(self, message, exit_code):
        self._calls.put((message, exit_code))

    def next(self):
        return self._calls.get(timeout=WAIT_S)

    def none(self):
        return self._calls.empty()


class Clock:
    """A clock that is set, and knows how often it was read."""

    now, reads = 50.0, 0

    def monotonic(self):
        self.reads += 1
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stop, "time", clock)
    return clock


@pytest.fixture
def leaving():
    return Leaving()


@pytest.fixture(autouse=True)
def no_nohup():
    """Let the tests be as they are in a terminal, also where something above them has them ignore its end."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def request_(leaving):
    request = StopRequest()
    request.listen(leaving)
    yield request
    request.close()


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_training_sets_the_flag_and_nothing_else(request_, leaving, number):
    request_.begin_training()
    assert not request_.requested
    assert request_.reason is None
    send(number)
    wait_until(lambda: request_.requested)
    assert request_.reason == number.name
    assert leaving.none()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_before_training_ends_the_job_at_once(request_, leaving, number):
    send(number)
    message, exit_code = leaving.next()
    assert message == f"stopped by {number.name} before there was anything to save"
    assert exit_code == 75


def test_handlers_are_as_before_in_the_end(leaving):
    before = [signal.getsignal(number) for number in SIGNALS]
    request = StopRequest()
    request.listen(leaving)
    assert [signal.getsignal(number) for number in SIGNALS] != before
    request.close()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_closed_terminal_is_ignored_under_nohup(leaving):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    request = StopRequest()
    request.listen(leaving)
    send(signal.SIGHUP)
    send(signal.SIGTERM)
    message, _ = leaving.next()
    request.close()
    assert message.startswith("stopped by SIGTERM")
    assert leaving.none()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_nothing_keeps_it_once_it_is_closed(leaving):
    """Its clock knows the training, with all its data, and a notebook may train again and again."""
    request = StopRequest()
    request.listen(leaving)
    request.close()
    kept = weakref.ref(request)
    del request
    wait_until(lambda: kept() is None)  # its thread ends by itself


def test_a_second_interrupt_leaves_at_once_but_not_the_echo_of_the_first(request_, leaving, clock):
    request_.begin_training()
    for passed in (0, 0.5):
        clock.now, clock.reads = clock.now + passed, 0
        send(signal.SIGINT)
        wait_until(lambda: clock.reads)
    clock.now += 0.6
    wait_until(lambda: request_.reason)
    assert leaving.none()
    send(signal.SIGINT)
    assert leaving.next() == ("interrupted twice: left at once, without saving", 130)


def test_other_signals_may_come_as_often_as_they_like(request_, leaving, clock):
    request_.begin_training()
    for _ in range(3):
        send(signal.SIGTERM)
        clock.now += 5
    wait_until(lambda: request_.reason)
    assert request_.reason == "SIGTERM"
    assert leaving.none()


def test_the_first_reason_is_kept():
    request = StopRequest()
    request.ask("run.max_minutes")
    request.ask("SIGTERM")
    assert request.requested
    assert request.reason == "run.max_minutes"


def test_the_clock_asks_too():
    request = StopRequest()
    answers = iter([False, True])
    request.clock = SimpleNamespace(time_is_up=lambda: next(answers))
    assert not request.requested
    assert request.requested
    assert request.requested  # without a further look
    assert request.reason == "run.max_minutes"


def test_it_can_be_asked_without_listening():
    """As ranks that are threads do: only the main thread may handle signals."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(StopRequest().requested))
    thread.start()
    thread.join(10)
    assert seen == [False]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_can_be_ended_and_asks_for_nothing(request_, leaving):
    """As a pool of a user's processes does; they share the parent's pipe."""
    request_.begin_training()
    fork = multiprocessing.get_context("fork")
    up = fork.Event()
    child = fork.Process(target=lambda: (up.set(), time.sleep(60)), daemon=True)
    child.start()
    assert up.wait(WAIT_S)
    child.terminate()
    child.join(WAIT_S)
    assert child.exitcode == -signal.SIGTERM
    assert request_.reason is None
    send(signal.SIGUSR2)
    wait_until(lambda: request_.reason)
    assert request_.reason == "SIGUSR2"
