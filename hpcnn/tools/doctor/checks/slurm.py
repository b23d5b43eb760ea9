"""Checks of the Slurm job that this is part of."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.tools.doctor.facts import Facts
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_PMI = {"MPICH": ("pmi2", "cray_shasta"), "Open MPI": ("pmix",)}


def check_tasks(facts: Facts) -> Iterator[Finding]:
    """Every task of the job becomes a rank."""
    if facts.slurm is None or facts.slurm.tasks is None:
        return
    tasks, size = facts.slurm.tasks, facts.launch.size
    if not facts.started and tasks > 1:
        yield warning(
            "Slurm tasks",
            f"job {facts.slurm.job_id} has {tasks} tasks, and the doctor saw none but this process",
            f"mpirun -n {tasks} python -m hpcnn.doctor",
        )
    elif tasks != size:
        yield warning(
            "Slurm tasks",
            f"job {facts.slurm.job_id} has {tasks} tasks, but {facts.launch.launcher} started {size} ranks",
            f"mpirun -n {tasks} python -m hpcnn.doctor   # or: #SBATCH --ntasks={size}",
        )
    else:
        yield ok("Slurm tasks", f"job {facts.slurm.job_id}: {tasks}, as many as ranks")


def check_cpus(facts: Facts) -> Iterator[Finding]:
    """Every rank gets the CPUs that were asked for."""
    if facts.slurm is None or facts.slurm.cpus_per_task is None:
        return
    asked, name = facts.slurm.cpus_per_task, "Slurm CPUs"
    short = next((rank for rank in facts.ranks if len(rank.cores.cpus) < asked), None)
    busy = next((rank for rank in facts.ranks if rank.asked_threads[1] > asked), None)
    if short is not None:
        yield problem(
            name,
            f"--cpus-per-task={asked}, but rank {short.rank} on {short.host} may use {len(short.cores.cpus)}: srun "
            "does not take that option over from sbatch",
            f"export SRUN_CPUS_PER_TASK={asked}   # or: srun --cpus-per-task={asked}",
        )
    elif busy is not None:
        yield problem(
            name,
            f"--cpus-per-task={asked}, but rank {busy.rank} is to compute on {busy.asked_threads[1]} threads",
            "export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK",
        )
    else:
        yield ok(name, f"{asked} a task, and every rank may use them")


def check_end(facts: Facts) -> Iterator[Finding]:
    """The training is told before its time is over."""
    if facts.slurm is None or facts.slurm.signal is None or facts.slurm.time_limit in ("", "UNLIMITED"):
        return
    limit, name = facts.slurm.time_limit, "Slurm time"
    if facts.slurm.signal:
        yield ok(name, f"{limit}, and --signal={facts.slurm.signal} asks the job to save before")
    else:
        yield warning(
            name,
            f"after {limit} the job is killed without a word: its batch script has no --signal, so what was computed "
            "since the last checkpoint is lost",
            "#SBATCH --signal=B:USR1@120   # in the batch script; slurm/train.sbatch shows the rest",
        )


def check_mpi_kinds(facts: Facts) -> Iterator[Finding]:
    """Ranks of this MPI can be started by srun."""
    if facts.slurm is None or not facts.slurm.mpi_kinds or not facts.mpi:
        return
    kinds, name = facts.slurm.mpi_kinds, "srun"
    fitting = [kind for name in _PMI[facts.mpi] for kind in kinds if kind.startswith(name)]
    if fitting:
        yield ok(name, f"srun --mpi={fitting[0]} fits {facts.mpi}")
    else:
        yield warning(
            name,
            f"srun can't start ranks of {facts.mpi}: it offers {', '.join(kinds)}",
            "export HPCNN_LAUNCHER=mpirun   # and start ranks by mpirun, not by srun",
        )
