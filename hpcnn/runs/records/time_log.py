"""``time.jsonl``: the time of all ranks by phase, and the rank that the others wait for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from hpcnn.comm.protocol import Communicator
from hpcnn.core import activity
from hpcnn.core.activity import PHASES
from hpcnn.runs.prediction.record import ExchangeRecord, Measure, RunTimes
from hpcnn.runs.records.line_log import LineLog
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.run_info import Straggler
from hpcnn.training.callbacks import Callback, Control, EpochReport, StepReport
from hpcnn.training.replica import Replica

GAP_S, GAP_SHARE = 1.0, 1 / 500
"""Least time between two lines: these seconds, or this share of the time since the start if that is longer."""
WITHIN_S = 10.0
"""Time between two lines within a longer epoch."""
_FIRST_WITHIN = 50
"""The step with the first line, if the first epoch is that long."""
GROUPS = {
    "compute": (activity.FORWARD, activity.BACKWARD, activity.OPTIMIZER),
    "wait": (activity.WAIT,),
    "reduce": (activity.REDUCE,),
    "data": (activity.DATA,),
    "evaluate": (activity.EVALUATE,),
    "save": (activity.SAVE,),
    "set-up": (activity.SET_UP,),
    "other": (activity.RECOVER, activity.OTHER),
}
"""The phases as they are shown, grouped."""
_OWN_WORK = (activity.DATA, activity.FORWARD, activity.BACKWARD, activity.OPTIMIZER, activity.EVALUATE)
"""The phases that the other ranks wait for if they take one rank longer."""
_STRAGGLER_RATIO, _STRAGGLER_S = 1.2, 0.5
"""A rank is a straggler if its work takes this many times as long as the others', and this many seconds longer."""


def find_straggler(hosts: Sequence[str], seconds: Mapping[str, Sequence[float]]) -> Straggler | None:
    """Return the rank whose own work takes much longer than the others', if there is one.

    >>> print(find_straggler(["a", "a", "b"], {"forward": [4.0, 4.0, 9.0], "wait": [5.0, 5.0, 0.0]}))
    rank 2 on b takes 2.2 times as long as the others
    """
    work = [sum(each) for each in zip(*(seconds[phase] for phase in _OWN_WORK if phase in seconds), strict=True)]
    if len(work) < 2:
        return None
    rank = max(range(len(work)), key=work.__getitem__)
    others = median(work[:rank] + work[rank + 1 :])
    if work[rank] < _STRAGGLER_RATIO * others or work[rank] < others + _STRAGGLER_S or not others:
        return None
    return Straggler(rank, hosts[rank], work[rank] / others)


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each of `GROUPS` in the seconds by phase.

    >>> shares({"forward": 2.0, "backward": 4.0, "wait": 2.0})["compute"]
    0.75
    """
    total = sum(seconds.values()) or 1.0
    return {group: sum(seconds.get(phase, 0.0) for phase in phases) / total for group, phases in GROUPS.items()}


def shares_text(share: Mapping[str, float]) -> str:
    """Return the shares of 1 % and more as text, the greatest first.

    >>> shares_text({"compute": 0.75, "wait": 0.0, "data": 0.246})
    'compute 75 %, data 25 %'
    """
    ordered = sorted(share.items(), key=lambda each: -each[1])
    return ", ".join(f"{group} {100 * each:.0f} %" for group, each in ordered if each >= 0.01)


class TimeLog(Callback):
    """Gathers the seconds that the ranks spend in each phase. Every rank has one; rank 0 writes.

    It outlives the loss of other ranks. Intervals are counted in steps, which are the same on all ranks; their lengths
    follow from rank 0's clock, which travels with the seconds. Steps that are done again after a resume count twice.
    """

    def __init__(self, comm: Communicator, folder: RunFolder, measure: Measure | None = None) -> None:
        self._comm, self._activity, self._measure = comm, comm.activity, measure
        self._begin = self._since = time.perf_counter()
        self._before: dict[str, float] = {}
        """This rank's seconds at the last line."""
        self._hosts: list[str] = []
        self._record: ExchangeRecord | None = None
        """For the next line, which is the first on these ranks."""
        self.times = RunTimes()
        self._steps, self._gap, self._within = 0, 1, _FIRST_WITHIN
        """Steps since the last line; steps after which one is due at the end of an epoch, and within one."""
        self.log = LineLog(folder.time)
        """Each rank keeps the lines that rank 0 has not written yet: rank 0 may be lost."""
        self.totals: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        """Seconds of all ranks together."""
        self.straggler: Straggler | None = None
        """The rank that the others waited for before the last line."""

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Gather the hosts, and measure what their exchange depends on."""
        self._hosts = self._comm.allgather(self._comm.host)
        self._record = self._measure(self._comm, replica, self._hosts) if self._measure else None
        self._steps, self._gap, self._within = 0, 1, _FIRST_WITHIN  # lost ranks may have left different counts

    def on_step(self, report: StepReport) -> None:
        """Write a line if one is due within a long epoch."""
        self._steps += 1
        if self._steps >= self._within:
            self.gather()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Write a line if one is due."""
        if self._steps >= self._gap:
            self.gather()

    def gather(self) -> None:
        """Gather the seconds of all ranks, and write a line. Collective."""
        comm = self._comm
        self._activity.enter(self._activity.phase)  # counts the current phase up to now
        now, seconds = time.perf_counter(), self._activity.seconds
        own = [seconds.get(phase, 0.0) - self._before.get(phase, 0.0) for phase in PHASES]
        self._before = dict(seconds)
        everyone = comm.allgather((now - self._since, now - self._begin, own, len(self.log.waiting)))
        took_s, elapsed_s, _, waiting = everyone[0]
        self._since = now
        by_phase = dict(zip(PHASES, zip(*(each for _, _, each, _ in everyone), strict=True), strict=True))
        for phase, of_ranks in by_phase.items():
            self.totals[phase] += sum(of_ranks)
        self.straggler = find_straggler(self._hosts, by_phase)
        self.times.add(self._hosts, by_phase, self._steps, self._record)
        self.log.keep(waiting)
        self.log.waiting.append(self._line(by_phase))
        self._record = None
        self._plan(took_s, elapsed_s)
        if comm.rank == 0:
            self.write()

    def write(self) -> None:
        """Write the waiting lines."""
        self.log.write()

    def _plan(self, took_s: float, elapsed_s: float) -> None:
        """Set the number of steps to the next line, by the time that rank 0 took for those since the last one."""
        rate = self._steps / max(took_s, 1e-9)
        gap_s = max(GAP_S, GAP_SHARE * elapsed_s)
        self._gap, self._within = max(1, int(rate * gap_s)), max(1, int(rate * max(gap_s, WITHIN_S)))
        self._steps = 0

    def _line(self, by_phase: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        return {
            "epoch": self._activity.epoch,
            "step": self._activity.step,
            "steps": self._steps,
            "hosts": self._hosts,
            "seconds": {phase: [round(each, 6) for each in of_ranks] for phase, of_ranks in by_phase.items()},
            **({"exchange": self._record.plain} if self._record else {}),
        }
