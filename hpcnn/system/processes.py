"""What the system says of the processes of this host: which ranks the launcher started, and what became of them."""

from __future__ import annotations

import os
from contextlib import suppress

LAUNCHERS = {
    *("mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "hydra_bstrap_pr", "mpispawn"),
    *("prterun", "prte", "prted", "orterun", "orted", "palsd", "slurmstepd"),
}
"""Which may themselves have been started by a rank of another job."""

NEVER_CAME_S = 3.0
"""After so long without it, a rank that an idle launcher should have started is dead."""


def start_time(process: int) -> int:
    """Return when a process began, in ticks; 0 if it is gone or has ended. With its number, this names it for ever."""
    fields = stat_of(process)
    return 0 if not fields or fields[0] in "ZX" else int(fields[19])


def stat_of(process: int) -> list[str]:
    """Return what the system says of a process, from its state on; nothing if it is gone."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is slow
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def setting_of(process: int, name: str) -> str | None:
    """Return a variable of the environment with which a process was started, if there is one to be seen."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:  # noqa: PTH123
            settings = file.read().split(b"\0")
    except OSError:
        return None
    start = f"{name}=".encode()
    return next((one[len(start) :].decode() for one in settings if one.startswith(start)), None)


def children_of(process: int) -> list[int]:
    """Return the processes that one has started, dead ones that it has not taken notice of included."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found


def launcher_of(process: int, variable: str) -> int:
    """Return the process that started a rank: the first above it that is not of the rank itself."""
    while setting_of(process, variable) is not None and name_of(process) not in LAUNCHERS:
        process = int((stat_of(process) or "Z1")[1])
    return process


def name_of(process: int) -> str:
    """Return the name of a process's program; empty if it is gone."""
    with suppress(OSError), open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read().strip()
    return ""


class Siblings:
    """The ranks of this host as the launcher's children, for as long as they can't be asked.

    Args:
        launcher: the process that starts them.
        variable: the variable of the environment that says which rank a process is.
        expected: how many there will be; 0 if nobody says.
    """

    def __init__(self, launcher: int, variable: str, expected: int) -> None:
        self._launcher, self._variable, self._expected = launcher, variable, expected
        self._ranks: dict[int, str] = {}
        self._missing_s = 0.0
        self.stopped_s: dict[int, float] = {}
        """For how long each process has been stopped."""

    def look(self, seconds: float) -> str:
        """Return what has become of one that is dead, `seconds` after the last call; empty if none is."""
        strange = int(name_of(self._launcher) not in LAUNCHERS)  # as a container's starter, of which nothing is known
        alive = set()
        for child in children_of(self._launcher):
            state = (stat_of(child) or "Z")[0]
            rank = self._ranks.get(child) or setting_of(child, self._variable)
            if state not in "ZX":
                alive.add(child)
                strange += rank is None
                if rank is not None:
                    self._ranks[child] = rank
            self.stopped_s[child] = self.stopped_s.get(child, 0.0) + seconds if state in "Tt" else 0.0
        if not alive:  # not even this rank: the system does not tell
            return ""
        for process, rank in self._ranks.items():
            if process not in alive:
                return f"rank {rank} died before all ranks were connected (its process {process} is gone)"
        busy = strange or (stat_of(self._launcher) or "R")[0] != "S"  # it may yet start them
        self._missing_s = 0.0 if busy or len(alive) >= self._expected else self._missing_s + seconds
        if self._missing_s < NEVER_CAME_S:
            return ""
        there = ", ".join(sorted(self._ranks.values(), key=int))
        dead = self._expected - len(alive)
        return f"{dead} of this host's {self._expected} ranks died before all ranks were connected (left: {there})"

    def stopped(self, limit_s: float) -> str:
        """Return which one has been stopped for so long, unless all are, as when a job is suspended."""
        here = [process for process in self._ranks if process in self.stopped_s]
        late = [process for process in here if self.stopped_s[process] >= limit_s]
        if not late or all(self.stopped_s[process] for process in here):
            return ""
        return f"rank {self._ranks[late[0]]}, whose process {late[0]} is stopped, does not connect"
