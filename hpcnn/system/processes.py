"""Processes of any host: which one this is, and what has become of another."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcnn.system.proc_files import stat_of

_PROC = Path("/proc")
_STATES = {"T": "is stopped", "t": "is stopped by a debugger", "Z": "has ended", "X": "has ended"}


@dataclass(frozen=True, slots=True)
class Process:
    """A process of some host. What `/proc` does not tell is empty."""

    host: str
    number: int
    start: str
    """When it began, in ticks since the host did: numbers are given again."""
    boot: str
    """The host's identity since it was booted."""
    namespace: str
    """Numbers of processes mean something only within one."""

    @classmethod
    def own(cls, host: str = "") -> Process:
        """Return this process, on a host that goes by the name `host`, or by its own."""
        return cls.near(os.getpid(), host)

    @classmethod
    def near(cls, number: int, host: str = "") -> Process:
        """Return the process of this number that this one sees."""
        return cls(host or socket.gethostname(), number, _state_and_start(number)[1], *_place())

    def is_near(self) -> bool:
        """Return whether this process sees that one, or would if it were still there."""
        return all(_place()) and (self.boot, self.namespace) == _place() and _sees_own_numbers()

    def is_dead(self) -> bool:
        """Return whether it has ended for certain: False also means that nobody here can tell."""
        if not self.is_near() or not self.start:
            return False
        state, start = _state_and_start(self.number)
        return start != self.start if state not in ("Z", "X") else _threads(self.number) <= 1

    def state(self) -> str:
        """Return what has become of it, in words; empty if it runs, or if this process can't see it."""
        if not self.is_near():
            return ""
        state, start = _state_and_start(self.number)
        what = _STATES.get(state, "") if state and start == self.start else "is gone"
        return f"its process {self.number} {what}" if what else ""


def _place() -> tuple[str, str]:
    boot = namespace = ""
    with suppress(OSError):
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(_PROC / "self/ns/pid")  # noqa: PTH115 - the link leads nowhere
    return boot, namespace


def _sees_own_numbers() -> bool:
    try:
        return os.readlink(_PROC / "self") == str(os.getpid())  # noqa: PTH115 - not as a path
    except OSError:
        return False


def _state_and_start(number: int) -> tuple[str, str]:
    """Return the letter of its state and its start; both empty if there is none of this number."""
    fields = stat_of(number)
    return (fields[0], fields[19]) if fields else ("", "")


def _threads(number: int) -> int:
    try:
        return len(list((_PROC / str(number) / "task").iterdir()))
    except OSError:
        return 0
