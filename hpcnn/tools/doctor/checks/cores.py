"""Checks of the processors: ranks and threads against cores, and what computes on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hpcnn.comm.waiting import SLEEPS
from hpcnn.core.formatting import counted
from hpcnn.system.cores import oversubscription, share
from hpcnn.tools.doctor.evidence import Evidence, Rank
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_FAST = ("openblas", "mkl", "blis", "accelerate", "flexiblas", "armpl", "nvpl", "libsci")
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")


def check_oversubscription(evidence: Evidence) -> Iterator[Finding]:
    """Each node has as many CPUs as ranks."""
    if not evidence.connected:
        return
    trouble = oversubscription([(rank.host, rank.cores) for rank in evidence.ranks])
    if trouble:
        host, ranks = max(by_host(evidence).items(), key=lambda node: len(node[1]) / _room(node[1]))
        room = _room(ranks)
        fix = (
            f"mpirun -n {len(ranks)} --bind-to none python -m hpcnn.train JOB"
            if room >= len(ranks)  # they are only bound badly
            else f"mpirun -n {room} python -m hpcnn.train JOB   # on {host}"
        )
        yield warning("ranks and cores", f"{trouble}{_while_waiting(evidence)}", fix)
        return
    host, ranks = next(iter(by_host(evidence).items()))
    cpus = counted(len(cpus_of(ranks)), "CPU")
    yield ok("ranks and cores", f"{counted(len(ranks), 'rank')} on {cpus} of {host}")


def check_threads(evidence: Evidence) -> Iterator[Finding]:
    """The threads of all ranks of a node fit on its CPUs."""
    name = "BLAS threads"
    host, ranks = max(by_host(evidence).items(), key=lambda node: _threads(node[1]) / len(cpus_of(node[1])))
    cpus, threads = len(cpus_of(ranks)), _threads(ranks)
    variable, asked = ranks[0].asked_threads
    others = sorted(ranks[0].threads.keys() - {"OMP_NUM_THREADS"})
    fitting = share(ranks[0].cores, [rank.cores for rank in ranks])
    if threads > max(cpus, len(ranks)):
        yield problem(
            name,
            f"{variable}={asked}: {counted(len(ranks), 'rank')} on {host} would compute on {threads} threads, and "
            f"there are {counted(cpus, 'CPU')}, so that they wait for each other",
            f"unset {' '.join(others)}; export OMP_NUM_THREADS={fitting}"
            if others
            else f"export OMP_NUM_THREADS={fitting}",
        )
    elif not asked and len(ranks) > 1:
        yield warning(
            name,
            f"OMP_NUM_THREADS is not set. hpcnn gives each rank {counted(fitting, 'thread')}; in scripts of your own, "
            f"NumPy or TensorFlow would start {len(ranks[0].cores.cpus)} in each of the {len(ranks)} ranks on {host}",
            f"export OMP_NUM_THREADS={fitting}",
        )
    else:
        yield ok(name, f"{asked or fitting} a rank, {counted(cpus, 'CPU')} on {host}")


def check_hyper_threads(evidence: Evidence) -> Iterator[Finding]:
    """Each node has as many cores as ranks, not only hardware threads."""
    name = "hyper-threads"
    for host, ranks in by_host(evidence).items():
        cpus, cores = len(cpus_of(ranks)), len(frozenset[int]().union(*(rank.cores.cores for rank in ranks)))
        if cores < len(ranks) <= cpus and cores < cpus:
            yield warning(
                name,
                f"{len(ranks)} ranks on {host} share {cores} cores: of its {cpus} CPUs two are one core, which "
                "computes no faster than one",
                f"mpirun -n {cores} python -m hpcnn.train JOB   # in Slurm: #SBATCH --hint=nomultithread",
            )
            return
    first = evidence.ranks[0].cores
    two = len(first.cores) < len(first.cpus)
    yield ok(name, "on, and left to the system" if two else "none: each CPU is a core")


def check_time_limit(evidence: Evidence) -> Iterator[Finding]:
    """No container or batch system allows less time than the CPUs that are to be seen."""
    for rank in evidence.ranks:
        quota = min((cpus for _, cpus in rank.cores.quotas), default=None)
        if quota is not None and quota < len(rank.cores.cpus):
            yield warning(
                "CPU limit",
                f"on {rank.host} {len(rank.cores.cpus)} CPUs are to be seen, but a control group allows the time of "
                f"{quota:g}: programs that count CPUs start too many threads",
                f"export OMP_NUM_THREADS={max(1, int(quota))}   # or docker run --cpus=N with a larger N",
            )
            return
    yield ok("CPU limit", "no control group limits the time of the CPUs")


def check_blas(evidence: Evidence) -> Iterator[Finding]:
    """NumPy's linear algebra is fast, and the same on all ranks."""
    name, kinds = "BLAS", {(rank.blas, rank.kernel): rank for rank in reversed(evidence.ranks)}
    if len(kinds) > 1:
        each = ", ".join(f"{blas} {kernel} on {rank.host}" for (blas, kernel), rank in kinds.items())
        kernel = min(kernel for _, kernel in kinds)
        yield warning(
            name,
            f'ranks compute with different ones ({each}): with train.arithmetic = "numpy" the result depends on which '
            "rank runs where",
            f"export OPENBLAS_CORETYPE={kernel}" if len({blas for blas, _ in kinds}) == 1 else "use one environment",
        )
    (blas, kernel), *_ = kinds
    if not blas.lower().startswith(_FAST) and "openblas" not in blas.lower():
        yield warning(
            name, f"NumPy uses {blas or 'no BLAS'}, which is slow", "pip install --force-reinstall --no-cache-dir numpy"
        )
    elif len(kinds) == 1:
        yield ok(name, f"{blas}{f', for {kernel}' if kernel else ''}")


def check_bf16(evidence: Evidence) -> Iterator[Finding]:
    """Tell whether the processor computes with bfloat16."""
    flags = evidence.nodes[0].flags if evidence.nodes else frozenset()
    able = [flag for flag in _BF16 if flag in flags]
    without = "the processor has no commands for it, and hpcnn's compressed sums need none"
    yield ok("bf16", f"the processor has {', '.join(able)}" if able else without)


def by_host(evidence: Evidence) -> dict[str, list[Rank]]:
    """Return the ranks of each host."""
    hosts = dict.fromkeys(rank.host for rank in evidence.ranks)
    return {host: [rank for rank in evidence.ranks if rank.host == host] for host in hosts}


def cpus_of(ranks: list[Rank]) -> frozenset[int]:
    """Return the CPUs that some of these ranks of one node may run on."""
    return frozenset[int]().union(*(rank.cores.cpus for rank in ranks))


def _while_waiting(evidence: Evidence) -> str:
    """Return what MPICH's ranks do while they wait, in a sentence; empty of another MPI, which knows by itself."""
    if not evidence.probe.library.startswith("MPICH"):
        return ""
    if all(rank.sleeps for rank in evidence.ranks):
        return f" Those that wait sleep, and leave the CPUs to the others ({SLEEPS}=1)."
    return f" Those that wait keep a CPU busy; export {SLEEPS}=1 lets them sleep."


def _room(ranks: list[Rank]) -> int:
    """Return how many ranks these CPUs can run, by the limits of control groups that several of them are in, too."""
    members = Counter(quota for rank in ranks for quota in rank.cores.quotas)
    return max(1, int(min([len(cpus_of(ranks)), *[cpus for (_, cpus), count in members.items() if count > 1]])))


def _threads(ranks: list[Rank]) -> int:
    return sum(rank.asked_threads[1] for rank in ranks)
