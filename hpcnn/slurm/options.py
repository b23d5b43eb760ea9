"""The options of sbatch that a submission interprets: number of ranks and time."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcnn.core.formatting import counted
from hpcnn.errors import JobError

_SHORT = {
    "N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "p": "partition", "A": "account", "a": "array",
    "J": "job-name", "o": "output", "d": "dependency", "D": "chdir",
}  # fmt: skip
_FLAGS = ("exclusive", "requeue", "no-requeue", "hold", "overcommit", "oversubscribe", "contiguous", "parsable", "wait")
"""Options without a value, or with an optional value after ``=``."""
_RANGE = re.compile(r"([1-9]\d*)(?:-([1-9]\d*))?")


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """Return options of sbatch by their long names; the last occurrence of an option counts.

    >>> parse_options(["-N2", "--time", "1:00:00", "--exclusive", "--gres=gpu:1"])
    {'nodes': '2', 'time': '1:00:00', 'exclusive': '', 'gres': 'gpu:1'}
    """
    options: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = _SHORT.get(word[1], word[1]), word[2:]
            equals = value
        else:
            continue
        if not equals and name not in _FLAGS and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        options[name] = value
    return options


def directives(script: str) -> dict[str, str]:
    r"""Return the options in the ``#SBATCH`` lines of a script, which end with its first command.

    >>> directives("#!/bin/bash\n#SBATCH --nodes=2 # two\n#SBATCH -t 5\necho\n#SBATCH -n 3\n")
    {'nodes': '2', 'time': '5'}
    """
    words: list[str] = []
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            try:
                words += shlex.split(line.removeprefix("#SBATCH"), comments=True)
            except ValueError:  # an unbalanced quote: sbatch reports it
                continue
        elif line.strip() and not line.startswith("#"):
            break
    return parse_options(words)


@dataclass(frozen=True)
class Size:
    """The resources that a job requests."""

    nodes: tuple[int, int]
    """Minimum and maximum."""
    ranks: int
    """Maximum number of ranks."""

    @property
    def varies(self) -> bool:
        """Whether Slurm chooses the number of nodes at each start."""
        return self.nodes[0] != self.nodes[1]

    def __str__(self) -> str:
        low, high = self.nodes
        nodes = f"{low} to {high} nodes" if self.varies else counted(high, "node")
        return f"{'at most ' * self.varies}{counted(self.ranks, 'rank')} on {nodes}"


def size_of(options: Mapping[str, str]) -> Size:
    """Return the resources that options of sbatch request. JobError: an option is not a valid number."""
    nodes = node_range(options.get("nodes", "1"))
    per_node = _count(options, "ntasks-per-node", 1)
    return Size(nodes, _count(options, "ntasks", 0) or nodes[1] * per_node)


def node_range(text: str) -> tuple[int, int]:
    """Return the minimum and maximum of ``2`` or ``2-4`` nodes. JobError: the text is neither."""
    found = _RANGE.fullmatch(text)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if low > high:
        raise JobError(f"--nodes {text}: expected a number, as 2, or a range from which Slurm chooses, as 2-4")
    return low, high


def _count(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise JobError(f"--{name} {text}: expected an integer >= 1")
    return int(text)
