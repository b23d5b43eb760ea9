"""What threads share: objects that some read and one changes, and the ranks, whose calls must come in one order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CommunicatorError, HpcnnError


class Shared:
    """Lets any number of threads read an object at once, or one change it.

    Who reads waits for a change to be done. Two changes at once would come in an order that nothing decides, so the
    second is refused.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers: set[object] = set()
        self._changing: tuple[int, str] | None = None
        """The thread that changes the object, and what it called."""

    @contextmanager
    def read(self) -> Iterator[None]:
        """Keep the object as it is within the block."""
        if self._changing is not None and self._changing[0] == threading.get_ident():  # called back in a change
            yield
            return
        reader = object()
        try:  # all within it: Ctrl-C may come at any time, also while this waits
            with self._condition:
                self._condition.wait_for(lambda: self._changing is None)
                self._readers.add(reader)
            yield
        finally:
            with self._condition:
                self._readers.discard(reader)
                self._condition.notify_all()

    @contextmanager
    def change(self, call: str) -> Iterator[None]:
        """Keep all other threads off the object within the block.

        Raises:
            HpcnnError: another thread is changing it.
        """
        own = threading.get_ident(), call
        try:  # all within it, as above
            with self._condition:
                if self._changing is not None:
                    raise HpcnnError(
                        f"{call} was called while another thread is in {self._changing[1]}. The order of the two would "
                        "decide the weights: let one thread make such calls, or give each thread a trainer of its own."
                    )
                self._changing = own
                self._condition.wait_for(lambda: not self._readers)
            yield
        finally:
            with self._condition:
                if self._changing is own:
                    self._changing = None
                    self._condition.notify_all()


class _Turn:
    """Whose turn it is to make collective calls on some ranks."""

    def __init__(self) -> None:
        self.lock, self.call = threading.RLock(), ""


_turns: WeakKeyDictionary[Communicator, _Turn] = WeakKeyDictionary()
_finding = threading.Lock()


def own(comm: Communicator) -> Communicator:
    """Return the ranks for one training: alone, new ones, so that trainings in several threads share nothing."""
    return SerialCommunicator() if isinstance(comm, SerialCommunicator) else comm


@contextmanager
def collective(comm: Communicator, call: str) -> Iterator[None]:
    """Make `call`, which all ranks have to make in the same order, within the block.

    Raises:
        CommunicatorError: another thread of this process is in such a call: the ranks would mix up their messages.
    """
    if isinstance(comm, SerialCommunicator):
        yield
        return
    with _finding:
        turn = _turns.setdefault(comm, _Turn())
    if not turn.lock.acquire(blocking=False):
        raise CommunicatorError(
            f"{call} was called while another thread is in {turn.call}. Under an MPI launcher both exchange messages "
            "with all ranks, which must come in one order: let one thread make such calls, one after the other."
        )
    before, turn.call = turn.call, call
    try:
        yield
    finally:
        turn.call = before
        turn.lock.release()


class _Sharing(Protocol):
    """An object that threads may share, on several ranks."""

    comm: Communicator
    shared: Shared


_Self = TypeVar("_Self", bound=_Sharing)
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")
_Method = Callable[Concatenate[_Self, _Given], _Result]


def reads(method: _Method[_Self, _Given, _Result]) -> _Method[_Self, _Given, _Result]:
    """Let a method read its object while other threads read it, too."""

    @wraps(method)
    def guarded(self: _Self, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        with self.shared.read():
            return method(self, *args, **kwargs)

    return guarded


def reads_on_all_ranks(method: _Method[_Self, _Given, _Result]) -> _Method[_Self, _Given, _Result]:
    """Let a collective method read its object: alone in its process if there are other ranks."""

    @wraps(method)
    def guarded(self: _Self, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        with collective(self.comm, _name_of(self, method)), self.shared.read():
            return method(self, *args, **kwargs)

    return guarded


def changes(method: _Method[_Self, _Given, _Result]) -> _Method[_Self, _Given, _Result]:
    """Let a collective method change its object, with all other threads kept off it."""

    @wraps(method)
    def guarded(self: _Self, /, *args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        call = _name_of(self, method)
        with collective(self.comm, call), self.shared.change(call):
            return method(self, *args, **kwargs)

    return guarded


def _name_of(self: object, method: Callable[..., Any]) -> str:
    return f"{type(self).__name__}.{method.__name__}"
