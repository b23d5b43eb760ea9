"""One process among the ranks: connected once, guarded where others depend on it, and left as it was found."""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

from hpcnn.comm.connect import check_caller
from hpcnn.comm.connect import connect as connect_once
from hpcnn.comm.failure import FailureGuard
from hpcnn.comm.launcher import CHOICE, detect_launch
from hpcnn.comm.protocol import Communicator
from hpcnn.core.stop_request import REPEAT_S, StopRequest, handled
from hpcnn.system.output import occupy_descriptors

_EXITS = [
    (module, name, getattr(module, name))
    for module, name in ((sys, "exit"), (builtins, "exit"), (builtins, "quit"))
    if hasattr(module, name)
]
"""The functions by which a program ends itself, and where they are found."""


class _Process:
    """What there is once in a process."""

    comm: Communicator | None = None
    guard: FailureGuard | None = None
    connecting = threading.Lock()


def connect() -> Communicator:
    """Return the ranks that the launcher started; in a plain process or a notebook, one rank alone.

    Every call returns the same ones. With other ranks about, an error that nobody catches on one of them ends the
    whole job from now on, with one message: they would else wait for it for ever. So does `sys.exit` with another
    code than 0, and `exit` and `quit`; not `raise SystemExit`, which nothing can take notice of.

    Raises:
        CommunicatorError: the MPI library does not work, or is not the launcher's; or other ranks will not call this.
        MissingExtraError: a launcher started several processes, but mpi4py is not installed.

    >>> connect().rank, connect().size
    (0, 1)
    """
    check_caller()
    if _Process.comm is None:
        with _Process.connecting:
            if _Process.comm is None:
                _connect()
    assert _Process.comm is not None
    return _Process.comm


def _connect() -> None:
    if detect_launch().size > 1 or os.environ.get(CHOICE) == "mpi":
        occupy_descriptors()
        _Process.guard = FailureGuard()
        _Process.guard.install()
        sys.excepthook = _uncaught
        for module, name, _ in _EXITS:
            setattr(module, name, _exit)
        os.register_at_fork(after_in_child=_let_go)
    _Process.comm = connect_once()
    if _Process.guard is not None:
        _Process.guard.comm = _Process.comm


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End the job on an error that ends this process; take the place of ``sys.excepthook``."""
    assert _Process.guard is not None
    raise SystemExit(_Process.guard.fail(error))


def _exit(status: Any = None, /) -> NoReturn:
    """Take the place of ``sys.exit`` and of its likes, which never come to ``sys.excepthook``."""
    main = threading.current_thread() is threading.main_thread()
    raise _Exit(status) if main and status not in (None, 0) else SystemExit(status)


class _Exit(SystemExit):
    """Ends the job once nobody has caught it: then it is the interpreter, and no Python code, that asks for `code`."""

    @property
    def code(self) -> Any:  # type: ignore[override]
        if sys._getframe().f_back is None and _Process.guard is not None:
            _Process.guard.exit(self)
        return self.args[0]


def _let_go() -> None:
    """Leave a forked child as it would be without us: it is no rank."""
    sys.excepthook = sys.__excepthook__
    for module, name, function in _EXITS:
        setattr(module, name, function)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Yield this rank's stop request, which signals raise within the block; the handlers from before return after it.

    Only the main thread receives signals: on another one no stop is requested.
    """
    guard = _Process.guard
    stop = StopRequest() if guard is not None else _StopAlone()
    if threading.current_thread() is not threading.main_thread():
        yield StopRequest()
        return
    if guard is not None:
        stop.listen(guard.leave)
    try:
        yield stop
    finally:
        stop.close()


class _StopAlone(StopRequest):
    """The stop request of a process that is alone, in whose main thread Python runs the handlers.

    Until training begins signals do what they did before: Ctrl-C raises KeyboardInterrupt. So does a second Ctrl-C
    later on.
    """

    def begin_training(self) -> None:
        super().begin_training()
        if not self._before and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._heard) for number in handled()}

    def close(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            now = time.monotonic()
            if self._first_interrupt and now - self._first_interrupt > REPEAT_S:
                raise KeyboardInterrupt
            self._first_interrupt = self._first_interrupt or now
        self.ask(signal.Signals(number).name)
