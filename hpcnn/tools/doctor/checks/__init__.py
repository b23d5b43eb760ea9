"""All checks: each is a function from the evidence to findings. To add one, write the function and list it here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hpcnn.tools.doctor.checks import container, cores, files, memory, mpi, network, slurm, software
from hpcnn.tools.doctor.evidence import Evidence
from hpcnn.tools.doctor.finding import Finding

CHECKS: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    *(mpi.check_launcher, mpi.check_library, mpi.check_other_mpis),
    *(mpi.check_threads, mpi.check_recovery, mpi.check_large_counts),
    *(slurm.check_tasks, slurm.check_cpus, slurm.check_end, slurm.check_mpi_kinds),
    *(container.check_container, container.check_mpi, container.check_launcher, container.check_shm),
    *(container.check_namespaces, container.check_run_folder, container.check_data),
    *(cores.check_oversubscription, cores.check_threads, cores.check_hyper_threads),
    *(cores.check_time_limit, cores.check_blas, cores.check_bf16),
    *(memory.check_memory, memory.check_shm, memory.check_sharing, memory.check_open_files),
    *(network.check_interfaces, network.check_messages, network.check_sums),
    *(files.check_run_folder, files.check_space, files.check_safety, files.check_imports, files.check_bytecode),
    *(software.check_versions, software.check_keras, software.check_horovod, software.check_gpus),
)


def judge(evidence: Evidence) -> list[Finding]:
    """Return what all checks find, in their order."""
    return [finding for check in CHECKS for finding in check(evidence)]
