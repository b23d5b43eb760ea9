"""Checks of the Slurm job that this is part of."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.tools.doctor.evidence import Evidence
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_PMI = {"MPICH": ("pmi2", "cray_shasta"), "Open MPI": ("pmix",)}


def check_tasks(evidence: Evidence) -> Iterator[Finding]:
    """Every task of the job becomes a rank."""
    if evidence.slurm is None or evidence.slurm.tasks is None:
        return
    tasks, size = evidence.slurm.tasks, evidence.launch.size
    if not evidence.started and tasks > 1:
        yield warning(
            "Slurm tasks",
            f"job {evidence.slurm.job_id} has {tasks} tasks, and the doctor saw none but this process",
            f"mpirun -n {tasks} python -m hpcnn.doctor",
        )
    elif tasks != size:
        yield warning(
            "Slurm tasks",
            f"job {evidence.slurm.job_id} has {tasks} tasks, but {evidence.launch.launcher} started {size} ranks",
            f"mpirun -n {tasks} python -m hpcnn.doctor   # or: #SBATCH --ntasks={size}",
        )
    else:
        yield ok("Slurm tasks", f"job {evidence.slurm.job_id}: {tasks}, as many as ranks")


def check_cpus(evidence: Evidence) -> Iterator[Finding]:
    """Every rank gets the CPUs that were asked for."""
    if evidence.slurm is None or evidence.slurm.cpus_per_task is None:
        return
    asked, name = evidence.slurm.cpus_per_task, "Slurm CPUs"
    short = next((rank for rank in evidence.ranks if len(rank.cores.cpus) < asked), None)
    busy = next((rank for rank in evidence.ranks if rank.asked_threads[1] > asked), None)
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


def check_end(evidence: Evidence) -> Iterator[Finding]:
    """The training is told before its time is over."""
    if evidence.slurm is None or evidence.slurm.signal is None or evidence.slurm.time_limit in ("", "UNLIMITED"):
        return
    limit, name = evidence.slurm.time_limit, "Slurm time"
    if evidence.slurm.signal:
        yield ok(name, f"{limit}, and --signal={evidence.slurm.signal} asks the job to save before")
    else:
        yield warning(
            name,
            f"after {limit} the job is killed without a word: its batch script has no --signal, so what was computed "
            "since the last checkpoint is lost",
            "#SBATCH --signal=B:USR1@120   # in the batch script; slurm/train.sbatch shows the rest",
        )


def check_mpi_kinds(evidence: Evidence) -> Iterator[Finding]:
    """Ranks of this MPI can be started by srun."""
    if evidence.slurm is None or not evidence.slurm.mpi_kinds or not evidence.mpi:
        return
    kinds, name = evidence.slurm.mpi_kinds, "srun"
    fitting = [kind for name in _PMI[evidence.mpi] for kind in kinds if kind.startswith(name)]
    if fitting:
        yield ok(name, f"srun --mpi={fitting[0]} fits {evidence.mpi}")
    else:
        yield warning(
            name,
            f"srun can't start ranks of {evidence.mpi}: it offers {', '.join(kinds)}",
            "export HPCNN_LAUNCHER=mpirun   # and start ranks by mpirun, not by srun",
        )
