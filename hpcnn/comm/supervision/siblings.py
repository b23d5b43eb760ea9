"""The ranks of a host before they are connected: the processes that the launcher has started here."""

from __future__ import annotations

from hpcnn.system.proc_files import children_of, name_of, parent_of, state_of, variable_of

LAUNCHERS = {
    *("mpirun", "mpiexec", "mpiexec.hydra", "hydra_pmi_proxy", "hydra_bstrap_pr", "mpispawn"),
    *("prterun", "prte", "prted", "orterun", "orted", "palsd", "slurmstepd"),
}
"""A launcher may itself have been started by a rank of another job."""

NEVER_CAME_S = 3.0
"""A rank that an idle launcher has not started within this time is dead."""


def launcher_of(process: int, variable: str) -> int:
    """Return the process that started a rank: its first ancestor without the rank's variable, or that is a launcher."""
    while variable_of(process, variable) is not None and name_of(process) not in LAUNCHERS:
        process = parent_of(process)
    return process


class Siblings:
    """The ranks of this host as children of the launcher, before they are connected.

    Args:
        launcher: the process that starts them.
        variable: the variable of the environment that says which rank a process is.
        expected: how many there will be; 0 if unknown.
    """

    def __init__(self, launcher: int, variable: str, expected: int) -> None:
        self._launcher, self._variable, self._expected = launcher, variable, expected
        self._ranks: dict[int, str] = {}
        self._missing_s = 0.0
        self.stopped_s: dict[int, float] = {}
        """How long each process has been stopped."""

    def look(self, seconds: float) -> str:
        """Return a message about a rank that is dead, `seconds` after the last call; empty if none is."""
        unknown = int(name_of(self._launcher) not in LAUNCHERS)  # such as one that starts a container
        alive = set()
        for child in children_of(self._launcher):
            state = state_of(child)
            rank = self._ranks.get(child) or variable_of(child, self._variable)
            if state not in "ZX":
                alive.add(child)
                unknown += rank is None
                if rank is not None:
                    self._ranks[child] = rank
            self.stopped_s[child] = self.stopped_s.get(child, 0.0) + seconds if state in "Tt" else 0.0
        if not alive:  # not even this rank: the system does not list children
            return ""
        for process, rank in self._ranks.items():
            if process not in alive:
                return f"rank {rank} died before all ranks were connected (its process {process} is gone)"
        busy = unknown or state_of(self._launcher) != "S"  # it may yet start them
        self._missing_s = 0.0 if busy or len(alive) >= self._expected else self._missing_s + seconds
        if self._missing_s < NEVER_CAME_S:
            return ""
        there = ", ".join(sorted(self._ranks.values(), key=int))
        dead = self._expected - len(alive)
        return f"{dead} of this host's {self._expected} ranks died before all ranks were connected (left: {there})"

    def stopped(self, limit_s: float) -> str:
        """Return a message about a rank that has been stopped for `limit_s`, unless all are, as in a suspended job."""
        here = [process for process in self._ranks if process in self.stopped_s]
        late = [process for process in here if self.stopped_s[process] >= limit_s]
        if not late or all(self.stopped_s[process] for process in here):
            return ""
        return f"rank {self._ranks[late[0]]}, whose process {late[0]} is stopped, does not connect"
