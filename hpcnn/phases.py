"""Where a rank's time goes: seconds by phase, kept only where somebody asks for them."""

from __future__ import annotations

import time
from collections import defaultdict

DATA, FORWARD, BACKWARD, WAIT, REDUCE, OPTIMIZER = "data", "forward", "backward", "wait", "reduce", "optimizer"
OTHER = "other"
"""The phases of a training step. `wait`: for other ranks; `reduce`: adding their gradients, and sending them on."""


class Phases:
    """A clock that is always in one phase.

    >>> phases = Phases()
    >>> phases.enter(FORWARD)
    >>> phases.enter(BACKWARD)
    >>> sorted(phases.seconds)
    ['forward', 'other']
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._phase, self._since = OTHER, time.perf_counter()

    def enter(self, phase: str) -> None:
        """End the current phase and begin `phase`."""
        now = time.perf_counter()
        self.seconds[self._phase] += now - self._since
        self._phase, self._since = phase, now
