import os
import signal
import threading
from types import SimpleNamespace

import pytest

from hpcnn.training import stop
from hpcnn.training.stop import SIGNALS, StopRequest


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_sets_the_flag_and_nothing_else(number):
    with StopRequest() as request:
        assert not request.requested
        assert request.reason is None
        os.kill(os.getpid(), number)
        assert request.requested
        assert request.reason == number.name


def test_handlers_are_as_before_in_the_end():
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopRequest():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ZeroDivisionError), StopRequest():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_second_interrupt_leaves_at_once_but_not_the_echo_of_the_first(clock):
    with StopRequest() as request:
        os.kill(os.getpid(), signal.SIGINT)
        clock.now += 0.5
        os.kill(os.getpid(), signal.SIGINT)
        assert request.reason == "SIGINT"
        clock.now += 0.6
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_signals_may_come_as_often_as_they_like(clock):
    with StopRequest() as request:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            clock.now += 5
        assert request.reason == "SIGTERM"
        os.kill(os.getpid(), signal.SIGINT)
        assert request.requested


def test_it_can_be_asked_without_being_entered():
    """As ranks that are threads do: only the main thread may handle signals."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(StopRequest().requested))
    thread.start()
    thread.join(10)
    assert seen == [False]
