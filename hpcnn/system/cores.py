"""The number of cores that a rank may use, from its binding, control groups, Slurm, and the other ranks of its host.

Reading never fails: a limit that can't be read is ignored.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from hpcnn.errors import HpcnnError
from hpcnn.system.blas import AUTO, THREADS
from hpcnn.system.control_groups import groups_of, read_text

MOST_THREADS = 1024
"""Of a rank: more than a host has cores."""


@dataclass(frozen=True)
class Cores:
    """What one process may run on. The numbers of CPUs and the names of control groups hold within its host."""

    cpus: frozenset[int]
    """CPUs as the system counts them: each hardware thread of a core is one."""
    cores: frozenset[int]
    """The physical cores of those CPUs, each named by the first CPU on it."""
    quotas: tuple[tuple[str, float], ...] = ()
    """For each of its control groups with a limit: the name, and how many CPUs' time the group may use."""
    slurm_cpus: int | None = None
    """CPUs per task requested from Slurm."""


def read_cores(
    root: Path = Path("/"), cpus: AbstractSet[int] | None = None, environ: Mapping[str, str] | None = None
) -> Cores:
    """Return what this process may run on.

    Args:
        root: where the file system starts.
        cpus: the CPUs that the process is bound to; by default those that the system reports.
        environ: environment variables; by default those of the process.
    """
    cpus = _affinity() if cpus is None else cpus
    asked = (os.environ if environ is None else environ).get("SLURM_CPUS_PER_TASK", "")
    return Cores(
        frozenset(cpus),
        _physical(cpus, root / "sys/devices/system/cpu"),
        tuple(_quotas(root)),
        int(asked) if asked.isdecimal() and int(asked) else None,
    )


def cpus_of_host(root: Path = Path("/")) -> float:
    """Return how many CPUs all ranks of this host have together at most, whatever each of them is bound to.

    Those that are online, or fewer by the limits of this process's control groups; `root` is where the file system
    starts.
    """
    sets = [read_text(root / "sys/devices/system/cpu/online")]
    for _, folder in groups_of("cpuset", root):
        sets += [read_text(folder / name) for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")]
    limits = [float(count) for text in sets if (count := len(set(_numbers(text))))]
    return min([*limits, *(cpus for _, cpus in _quotas(root))], default=float(os.cpu_count() or 1))


def share(own: Cores, together: Sequence[Cores]) -> int:
    """Return this rank's share of the cores, at least 1: what several ranks may use is divided among them.

    Args:
        own: what this rank may run on.
        together: the same of each rank of its host, itself included.

    >>> four = Cores(frozenset(range(4)), frozenset(range(4)))
    >>> share(four, [four]), share(four, [four, four]), share(four, [four] * 8)
    (4, 2, 1)
    """
    users = Counter(core for rank in together for core in rank.cores)
    limits = [float(sum(Fraction(1, users[core]) for core in own.cores))]
    members = Counter(group for rank in together for group, _ in rank.quotas)
    limits += [cpus / members[group] for group, cpus in own.quotas]
    if own.slurm_cpus:
        limits.append(math.ceil(own.slurm_cpus * len(own.cores) / len(own.cpus)))
    return max(1, math.floor(min(limits)))


def threads_of(own: Cores, together: Sequence[Cores], environ: Mapping[str, str] | None = None) -> int:
    """Return how many threads this rank computes on: its share of the host, unless the environment says otherwise.

    The default is 1 in programs other than hpcnn's commands, which have not limited BLAS.

    Raises:
        HpcnnError: HPCNN_THREADS is neither a number from 1 to 1024 nor "auto".

    >>> two = Cores(frozenset({0, 1}), frozenset({0, 1}))
    >>> [threads_of(two, [two], {"HPCNN_THREADS": asked}) for asked in ("auto", "3")]
    [2, 3]
    """
    asked = (os.environ if environ is None else environ).get(THREADS) or "1"
    if asked == AUTO:
        return share(own, together)
    if not (asked.isdecimal() and len(asked) < 10 and 1 <= int(asked) <= MOST_THREADS):
        raise HpcnnError(
            f"{THREADS}={asked!r} is not a number of threads. Set it to the threads per rank, 1 to {MOST_THREADS}, or "
            f"to {AUTO!r} for the rank's share of its node."
        )
    return int(asked)


def oversubscription(ranks: Sequence[tuple[str, Cores]]) -> str | None:
    """Return a warning if some host has more ranks than CPUs to run them, else None.

    Args:
        ranks: each rank's host and cores.
    """
    hosts = defaultdict[str, list[Cores]](list)
    for host, cores in ranks:
        hosts[host].append(cores)
    crowds = {host: crowd for host, together in hosts.items() if (crowd := _worst_crowd(together)) is not None}
    if not crowds:
        return None
    host = max(crowds, key=lambda host: crowds[host][0] / crowds[host][1])
    count, cpus = crowds[host]
    also = "" if len(hosts) == 1 else f" ({len(crowds)} of {len(hosts)} nodes have more ranks than CPUs)"
    return (
        f"{count} ranks share {cpus:g} CPU{'' if cpus == 1 else 's'} on {host}{also}, so they wait for each other. "
        "Start fewer ranks per node, or let them use more CPUs: --cpus-per-task in Slurm, --bind-to none in mpirun, "
        "the limit of the container."
    )


def _worst_crowd(together: Sequence[Cores]) -> tuple[int, float] | None:
    """Return ``(ranks, CPUs)`` of the worst case in which ranks share fewer CPUs than there are ranks."""
    ranks_on = Counter(rank.cpus for rank in together)
    crowds = [(sum(n for other, n in ranks_on.items() if other <= cpus), float(len(cpus))) for cpus in ranks_on]
    members = Counter(quota for rank in together for quota in rank.quotas)
    crowds += [(count, cpus) for (_, cpus), count in members.items() if count > 1]
    short = [crowd for crowd in crowds if crowd[0] > crowd[1]]
    return max(short, key=lambda crowd: crowd[0] / crowd[1], default=None)


def _affinity() -> AbstractSet[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _physical(cpus: AbstractSet[int], system: Path) -> frozenset[int]:
    if read_text(system / "smt/active") == "0":
        return frozenset(cpus)
    first = dict[int, int]()
    for cpu in sorted(cpus):
        if cpu not in first:
            siblings = {cpu, *_numbers(read_text(system / f"cpu{cpu}/topology/thread_siblings_list"))}
            first |= dict.fromkeys(siblings, min(siblings))
    return frozenset(first[cpu] for cpu in cpus)


def _numbers(text: str) -> Iterator[int]:
    """Yield the numbers of a list such as ``0-2,64``."""
    for start, stop in re.findall(r"(\d+)(?:-(\d+))?", text):
        yield from range(int(start), int(stop or start) + 1)


def _quotas(root: Path) -> Iterator[tuple[str, float]]:
    """Yield the limits of the control groups that the process is in."""
    for name, folder in groups_of("cpu", root):
        cpus = _quota(folder)
        if cpus:
            yield name, cpus


def _quota(group: Path) -> float | None:
    """Return how many CPUs' time the control group may use, if there is a limit."""
    older = (read_text(group / name) for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
    limit = read_text(group / "cpu.max") or " ".join(older)
    quota, _, period = limit.partition(" ")
    if quota.isdecimal() and period.isdecimal() and int(period):  # no limit reads "max" or "-1"
        return int(quota) / int(period)
    return None
