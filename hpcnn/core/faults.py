"""Fault injection, to test how a run reacts: ``HPCNN_FAULT="kill rank=2 step=20 phase=reduce"``.

Without that variable only the functions at the end are called, and do nothing.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hpcnn.core.activity import PHASES, SAVE, Activity
from hpcnn.errors import HpcnnError, unknown_name
from hpcnn.system.output import ERROR, write_line

VARIABLE = "HPCNN_FAULT"
"""Environment variable: an action, and when and on which rank it happens; several are separated by ``;``."""

_ACTIONS = {
    "kill": "after_s",
    "raise": "after_s",
    "exit": "code",
    "hang": "",
    "freeze": "after_s",
    "stop": "after_s",
    "signal": "after_s name",
    "slow": "seconds",
    "nan": "",
    "corrupt-checkpoint": "",
    "disk-full": "",
}
"""The actions, and the keys that each takes in addition to `_KEYS`."""
_KEYS = ("rank", "step", "phase", "count")
_REPEATED = ("slow", "nan")
"""Happen whenever the conditions hold, unless ``count`` says which time."""
_IN_HOOKS = ("nan", "corrupt-checkpoint", "disk-full")
"""Happen in the functions at the end of this module, not when a phase begins."""

Load = Callable[..., Any]
"""Returns arrays: the inputs are the first."""


class FaultError(HpcnnError, ValueError):
    """The environment variable is invalid."""


class InjectedError(Exception):
    """Raised by an injected fault, as an unexpected error would be."""


@dataclass
class Fault:
    """One action, its conditions, and how often they have held so far."""

    text: str
    action: str
    ranks: frozenset[int] | None = None
    steps: range | None = None
    phases: tuple[str, ...] = PHASES
    count: int = 1
    """It happens when the conditions hold for this time; 0: every time."""
    after_s: float = 0.0
    seconds: float = 0.1
    signal: signal.Signals = signal.SIGTERM
    code: int = 1
    met: int = field(default=0, compare=False)

    def is_due(self, activity: Activity) -> bool:
        """Return whether it is to happen now, to a rank that is doing `activity`."""
        if activity.phase not in self.phases or (self.steps is not None and activity.step not in self.steps):
            return False
        self.met += 1
        return self.count in (0, self.met)


def read(text: str, ranks: int) -> list[Fault]:
    """Return the faults that `text` describes, for this number of ranks.

    Raises:
        FaultError: the text is invalid.

    >>> read("kill rank=2 step=20 phase=reduce; slow seconds=0.5", 4)[0].steps
    range(20, 21)
    """
    return [_read_one(one.split(), ranks) for one in text.split(";") if one.strip()]


def _read_one(words: list[str], ranks: int) -> Fault:
    action, *settings = words
    if action not in _ACTIONS:
        unknown_name(f"action in {VARIABLE}", action, _ACTIONS, FaultError)
    fault = Fault(" ".join(words), action, count=0 if action in _REPEATED else 1)
    if action in ("corrupt-checkpoint", "disk-full"):
        fault.phases = (SAVE,)
    known = [*_KEYS, *_ACTIONS[action].split()]
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            unknown_name(f"key of {action!r} in {VARIABLE}", key, known, FaultError)
        _set(fault, key, value, ranks)
    return fault


def _set(fault: Fault, key: str, value: str, ranks: int) -> None:
    if key == "rank" and value != "*":
        fault.ranks = frozenset(_number(key, one) for one in value.split(","))
        if max(fault.ranks) >= ranks:
            raise FaultError(f"{VARIABLE}: rank={value}, but there are {ranks} ranks, numbered from 0")
    elif key == "step":
        first, dash, last = value.partition("-")
        fault.steps = range(_number(key, first), _number(key, last if dash else first) + 1)
        if not fault.steps:
            raise FaultError(f"{VARIABLE}: step={value} holds no step. Give the first and the last, as step=20-30.")
    elif key == "phase":
        fault.phases = tuple(value.split(","))
        for phase in fault.phases:
            if phase not in PHASES:
                unknown_name(f"phase in {VARIABLE}", phase, PHASES, FaultError)
    elif key == "name":
        names = [number.name.removeprefix("SIG") for number in signal.Signals]
        if value.removeprefix("SIG") not in names:
            unknown_name(f"signal in {VARIABLE}", value, names, FaultError)
        fault.signal = signal.Signals["SIG" + value.removeprefix("SIG")]
    elif key in ("count", "code"):
        setattr(fault, key, _number(key, value))
    elif key in ("seconds", "after_s"):
        setattr(fault, key, _seconds(key, value))


def _number(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        example = {"rank": "2, 1,3 or *", "step": "20 or 20-30"}.get(key, "1")
        raise FaultError(f"{VARIABLE}: {key}={value} is not understood. Give whole numbers, as {key}={example}.")
    return int(value)


def _seconds(key: str, value: str) -> float:
    try:
        seconds = float(value)
        if not 0 <= seconds < 1e6:
            raise ValueError
    except ValueError:
        raise FaultError(f"{VARIABLE}: {key}={value} is not understood. Give seconds, as {key}=0.5.") from None
    return seconds


class Injector:
    """Injects the faults of one rank.

    Args:
        faults: those of all ranks.
        rank: this one.
    """

    def __init__(self, faults: list[Fault], rank: int) -> None:
        self.faults = [fault for fault in faults if fault.ranks is None or rank in fault.ranks]
        self._rank = rank
        self._activity = Activity()

    def follow(self, activity: Activity) -> None:
        """Check the current phase of `activity`, and each one that it enters from now on."""
        self._activity = activity
        activity.on_enter = self._entered
        self._entered()

    @property
    def step(self) -> int:
        """The step that the rank is in."""
        return self._activity.step

    def due(self, *actions: str) -> list[Fault]:
        """Return the faults with one of these actions that are to happen now."""
        return [fault for fault in self.faults if fault.action in actions and fault.is_due(self._activity)]

    def announce(self, fault: Fault) -> None:
        """Report that it happens; only once if it is repeated."""
        if fault.count or fault.met == 1:
            write_line(f"hpcnn: fault injected on rank {self._rank} in {self._activity}: {fault.text}", ERROR)

    def _entered(self) -> None:
        for fault in self.due(*(action for action in _ACTIONS if action not in _IN_HOOKS)):
            if fault.after_s:
                timer = threading.Timer(fault.after_s, self._trigger, [fault])
                timer.daemon = True
                timer.start()
            else:
                self._trigger(fault)

    def _trigger(self, fault: Fault) -> None:
        self.announce(fault)
        _inject(fault)


def _inject(fault: Fault) -> None:
    match fault.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise InjectedError(f"asked for by {VARIABLE}: {fault.text}")
        case "exit":
            sys.exit(fault.code)
        case "hang":
            _hang()
        case "freeze":
            import ctypes

            ctypes.PyDLL(None).read(os.pipe()[0], bytes(1), 1)  # PyDLL keeps the GIL; nothing ever comes
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "signal":
            os.kill(os.getpid(), fault.signal)
        case "slow":
            time.sleep(fault.seconds)


def _hang() -> NoReturn:
    while True:
        time.sleep(3600)


_injectors: list[Injector] = []
"""That of this process, if it has faults."""


def start(text: str, rank: int, ranks: int, activity: Activity) -> None:
    """Inject the faults that `text` describes into this process, which is `rank`, when its `activity` meets them.

    Raises:
        FaultError: the text is invalid.
    """
    injector = Injector(read(text, ranks), rank)
    _injectors[:] = [injector] if injector.faults else []
    if injector.faults:
        injector.follow(activity)


def loading(load: Load) -> Load:
    """Return `load`; or, if asked for, what makes the first number that it loads a NaN in the steps that have it."""
    injectors = [one for one in _injectors if any(fault.action == "nan" for fault in one.faults)]
    if not injectors:
        return load
    decided: dict[int, bool] = {}

    def spoilt(*which: int) -> Any:
        loaded = load(*which)
        step = injectors[0].step
        if step not in decided:
            decided[step] = _happen("nan")
        if decided[step] and loaded[0].size:
            loaded[0].flat[0] = float("nan")
        return loaded

    return spoilt


def writing(temporary: Path) -> None:
    """Simulate a full disk halfway through a checkpoint that is being written to `temporary`."""
    if _happen("disk-full"):
        os.truncate(temporary, temporary.stat().st_size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))


def written(path: Path) -> None:
    """Flip bits of the checkpoint that was just written to `path`."""
    if _happen("corrupt-checkpoint"):
        with path.open("rb+") as file:
            file.seek(path.stat().st_size * 2 // 3)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 0xFF]))


def _happen(action: str) -> bool:
    happening = [(injector, fault) for injector in _injectors for fault in injector.due(action)]
    for injector, fault in happening:
        injector.announce(fault)
    return bool(happening)
