"""The time of a run by rank and phase: the lines of time.jsonl, summed as long as the ranks stayed the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpcnn.runs.prediction.record import ExchangeRecord, RunTimes
from hpcnn.runs.records.time_log import GROUPS, find_straggler
from hpcnn.tools.report.values import number, whole

MEANING = {
    "compute": "forward, backward and the optimizer",
    "wait": "for ranks that are slower",
    "reduce": "adding the gradients of all ranks",
    "data": "making batches ready",
    "evaluate": "on the validation data",
    "save": "checkpoints",
    "set-up": "reading data, building the model",
    "other": "callbacks, recovery from lost ranks",
}
"""Descriptions of the groups."""
_MOST_RANKS = 2**20
"""A line with more ranks is damaged."""


@dataclass(frozen=True)
class TimeAccount:
    """Seconds of each rank by phase, over a period with the same ranks."""

    hosts: tuple[str, ...]
    """Of each rank."""
    last_epoch: int
    phases: Mapping[str, Sequence[float]]
    """Seconds by phase, of each rank."""

    @property
    def ranks(self) -> int:
        """Number of ranks."""
        return len(self.hosts)

    @cached_property
    def seconds(self) -> dict[str, list[float]]:
        """Seconds by group, of each rank; groups without any time are left out."""
        columns = {group: [self.phases[phase] for phase in self._of(group)] for group in GROUPS}
        sums = {group: [sum(of_rank) for of_rank in zip(*phases, strict=True)] for group, phases in columns.items()}
        return {group: values for group, values in sums.items() if any(values)}

    def _of(self, group: str) -> list[str]:
        """Return the phases of a group; those of none, from another version of hpcnn, count as `other`."""
        known = {phase for phases in GROUPS.values() for phase in phases}
        return [phase for phase in self.phases if phase in GROUPS[group] or (group == "other" and phase not in known)]

    @cached_property
    def totals(self) -> list[float]:
        """Seconds of each rank in all phases."""
        return [sum(column) for column in zip(*self.phases.values(), strict=True)]

    @property
    def shares(self) -> dict[str, float]:
        """Share of each group in the time of all ranks; groups without any time are left out."""
        sums = {group: sum(values) for group, values in self.seconds.items()}
        total = sum(sums.values()) or 1.0
        return {group: value / total for group, value in sums.items()}

    @property
    def slowest(self) -> str:
        """A sentence on the straggler; empty if there is none."""
        found = find_straggler(self.hosts, self.phases)
        return f"{str(found)[0].upper()}{str(found)[1:]}: they wait for it." if found else ""


def time_accounts(lines: Sequence[Mapping[str, Any]]) -> tuple[list[TimeAccount], RunTimes, int]:
    """Return one account per set of ranks in order, the times of the last ranks, and the number of unusable lines."""
    found: list[TimeAccount] = []
    times, useless = RunTimes(), 0
    for line in lines:
        one = _account(line)
        if one is None:
            useless += 1
            continue
        times.add(one.hosts, one.phases, whole(line.get("steps")) or 0, ExchangeRecord.read(line.get("exchange")))
        if found and found[-1].hosts == one.hosts:
            found[-1] = _added(found[-1], one)
        else:
            found.append(one)
    return found, times, useless


def _account(line: Mapping[str, Any]) -> TimeAccount | None:
    """Return what one line says; None if it is not as it should be."""
    hosts, phases, epoch = line.get("hosts"), line.get("seconds"), whole(line.get("epoch"))
    if not isinstance(hosts, list) or not isinstance(phases, dict) or not 0 < len(hosts) < _MOST_RANKS:
        return None
    seconds = {str(phase): _of_ranks(values, len(hosts)) for phase, values in phases.items()}
    known = {phase: values for phase, values in seconds.items() if values is not None}
    if epoch is None or len(known) < len(seconds) or not any(map(any, known.values())):
        return None
    return TimeAccount(tuple(map(str, hosts)), epoch, known)


def _of_ranks(values: Any, ranks: int) -> list[float] | None:
    """Return a time for each rank; None if that is not what the values are."""
    numbers = [number(value) for value in values] if isinstance(values, list) else []
    good = [value for value in numbers if value is not None and value >= 0]
    return good if len(good) == len(numbers) == ranks else None


def _added(one: TimeAccount, other: TimeAccount) -> TimeAccount:
    nothing = [0.0] * one.ranks
    both = {
        phase: [a + b for a, b in zip(one.phases.get(phase, nothing), other.phases.get(phase, nothing), strict=True)]
        for phase in dict.fromkeys([*one.phases, *other.phases])
    }
    return TimeAccount(one.hosts, max(one.last_epoch, other.last_epoch), both)
