"""Record when one rank does what, in two arrays: a few hundred nanoseconds and ten bytes per mark."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.core.activity import EVALUATE, PHASES, RECOVER, SAVE, WAIT, Activity

PAUSE, STEP_BEGIN, STEP_END, LAYER_END = range(len(PHASES), len(PHASES) + 4)
FIRST_LAYER = LAYER_END + 1
"""The code of a mark is the number of the entered phase, one of the above, or `FIRST_LAYER` plus a layer's number."""
MOST_MARKS = 2_000_000
"""The limit per rank."""

_PHASE_CODES = {phase: code for code, phase in enumerate(PHASES)}
_BETWEEN_EPOCHS = frozenset((EVALUATE, SAVE, RECOVER))


@dataclass(frozen=True)
class Marks:
    """The marks of a thread."""

    codes: Array
    times: Array
    """By the rank's own `time.perf_counter`."""
    places: Array
    """``(mark, epoch, step)``: the epoch and step from that mark on."""


class Recorder:
    """Records phases, steps and layers (as an `Observer` of a network) while it follows the `activity` of a rank."""

    def __init__(self, activity: Activity, layers: Sequence[str]) -> None:
        self.activity = activity
        self._layers = {name: FIRST_LAYER + number for number, name in enumerate(layers)}
        self._codes, self._times, self._places = array("H"), array("d"), array("q")
        self._add_code, self._add_time = self._codes.append, self._times.append
        self._step, self._last = 0, PAUSE
        self._others: Callable[[], None] | None = None
        self._follows = False
        self._record: Callable[[], None] = self._record_all

    def follow(self) -> None:
        """Record each phase that is entered from now on; the previous callback is called as well."""
        self._others, self._follows = self.activity.on_enter, True
        self._listen()

    def leave(self) -> None:
        """Stop recording phases."""
        self.activity.on_enter, self._follows = self._others, False

    def only_between_epochs(self) -> None:
        """Record only evaluations, saves and recoveries from now on."""
        self._mark(PAUSE, perf_counter())
        self._last, self._record = PAUSE, self._record_between_epochs
        if self._follows:
            self._listen()

    def passes(self, layer: str) -> tuple[Callable[[], None], Callable[[], None]]:
        """Return two functions that record the begin and the end of a pass of the layer."""
        code, add_code, add_time = self._layers[layer], self._add_code, self._add_time

        def begin() -> None:
            add_code(code)
            add_time(perf_counter())

        def end() -> None:
            add_code(LAYER_END)
            add_time(perf_counter())

        return begin, end

    def end_step(self) -> None:
        """Record the end of a step."""
        self._mark(STEP_END, perf_counter())

    @property
    def full(self) -> bool:
        """Whether the limit is reached."""
        return len(self._codes) >= MOST_MARKS

    def marks(self) -> Marks:
        """Return a copy of the marks so far, which end now."""
        if len(self._codes):
            self._mark(PAUSE, perf_counter())
        self._last = PAUSE
        places = np.array(self._places, np.int64).reshape(-1, 3)
        return Marks(np.array(self._codes, np.uint16), np.array(self._times, np.float64), places)

    def _listen(self) -> None:
        record, others = self._record, self._others

        def both() -> None:
            record()
            if others is not None:
                others()

        self.activity.on_enter = record if others is None else both

    def _record_all(self) -> None:
        activity = self.activity
        if activity.step != self._step:
            self._move()
            self._mark(STEP_BEGIN, activity.since)
        self._add_code(_PHASE_CODES[activity.phase])
        self._add_time(activity.since)

    def _record_between_epochs(self) -> None:
        activity = self.activity
        phase = activity.phase
        within = phase == WAIT and self._last != PAUSE
        code = _PHASE_CODES[phase] if phase in _BETWEEN_EPOCHS or within else PAUSE
        if code != self._last and not self.full:
            if activity.step != self._step:
                self._move()
            self._last = code
            self._mark(code, activity.since)

    def _move(self) -> None:
        self._step = self.activity.step
        self._places.extend((len(self._codes), self.activity.epoch, self._step))

    def _mark(self, code: int, now: float) -> None:
        self._add_code(code)
        self._add_time(now)
