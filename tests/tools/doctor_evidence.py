"""Evidence that the doctor finds sound, and changes that make it wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hpcnn.comm.launcher import Launch, detect_launch
from hpcnn.system.cores import Cores
from hpcnn.tools.doctor.evidence import (
    Container,
    Evidence,
    FileSystem,
    Horovod,
    Interface,
    Node,
    Packages,
    Ping,
    Pings,
    Probe,
    Program,
    Rank,
    Slurm,
    Sum,
)

GB = 2**30
EIGHT = frozenset(range(8))
MPICH, OPEN_MPI = Program("/m/bin/mpirun", "MPICH 4.2"), Program("/o/bin/mpirun", "Open MPI 5.0.11")
BY_OPEN_MPI = detect_launch({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"})
BY_SRUN = detect_launch({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"})

RANKS = tuple(
    Rank(
        rank,
        "ab"[rank // 2],
        "3.12.1",
        "/m/bin/python",
        "2.1",
        "0.1",
        Cores(EIGHT, EIGHT),
        {"OMP_NUM_THREADS": "4"},
        "scipy-openblas 0.3",
        "Haswell",
        "A processor",
        16 * GB,
        4096,
        None,
        0.5,
    )
    for rank in range(4)
)
FOLDER = FileSystem("/home/me/runs", "nfs4", "/home", 500 * GB, 10**6, fsync_s=0.01)
NODES = tuple(
    Node(
        host,
        FileSystem("/dev/shm", "tmpfs", "/dev/shm", 8 * GB),
        FOLDER,
        FileSystem("/home/me/env", "nfs4", "/home", 500 * GB),
        (Interface("ib0", True, 200_000, "InfiniBand"), Interface("eth0", True, 1000)),
        flags=frozenset({"avx512_bf16"}),
    )
    for host in "ab"
)
PINGS = tuple(Pings(("a", host), (Ping(8, 2e-6), Ping(2**20, 1e-4))) for host in "ab")
SOUND = Evidence(
    detect_launch({"PMI_SIZE": "4", "PMI_RANK": "0"}),
    RANKS,
    NODES,
    Probe(
        library="MPICH 4.2",
        standard=(4, 1),
        threads="multiple",
        size=4,
        hosts=("a", "a", "b", "b"),
        no_recovery="the MPI is MPICH",
        pings=PINGS,
        sums=(Sum(2**20, 1e-3, 2e-3, 1.5e9),),
    ),
    (MPICH,),
    Packages({"mpi4py": "4.1", "mpich": "4.2", "tensorflow": "2.18", "keras": "3.6"}, Horovod("0.28", "2.18", "MPICH")),
    Slurm("17", 4, 8, "01:00:00", "B:USR1@120", ("pmi2", "pmix_v4")),
)
ALONE = replace(
    SOUND,
    launch=Launch("no launcher", 1, 0),
    ranks=RANKS[:1],
    nodes=NODES[:1],
    probe=replace(SOUND.probe, command="/m/bin/mpirun -n 2", size=2, hosts=("a", "a")),
    slurm=None,
)
APPTAINER = Container("Apptainer", "/a/hpcnn.sif", ("PMI",))
IN_CONTAINERS = replace(
    SOUND,
    nodes=tuple(replace(node, container=APPTAINER) for node in NODES),
    probe=replace(SOUND.probe, library_file="/opt/hpcnn/lib/libmpi.so.12", library_mount="/"),
    job="jobs/mnist_mlp.toml",
)

Change = Callable[[Evidence], Evidence]


def probe(**changes: Any) -> Change:
    return lambda evidence: replace(evidence, probe=replace(evidence.probe, **changes))


def ranks(which: slice = slice(None), **changes: Any) -> Change:
    def change(evidence: Evidence) -> Evidence:
        chosen = evidence.ranks[which]
        return replace(
            evidence, ranks=tuple(replace(one, **changes) if one in chosen else one for one in evidence.ranks)
        )

    return change


def nodes(which: slice = slice(None), **changes: Any) -> Change:
    def change(evidence: Evidence) -> Evidence:
        chosen = evidence.nodes[which]
        return replace(
            evidence, nodes=tuple(replace(one, **changes) if one in chosen else one for one in evidence.nodes)
        )

    return change


def folder(**changes: Any) -> Change:
    return nodes(run_folder=replace(FOLDER, **changes))


def job(**changes: Any) -> Change:
    return lambda evidence: replace(evidence, slurm=replace(evidence.slurm, **changes))


def packages(*removed: str, horovod: Horovod | None = None, **added: str) -> Change:
    def change(evidence: Evidence) -> Evidence:
        kept = {name: version for name, version in evidence.packages.versions.items() if name not in removed}
        added_names = {name.replace("_", "-"): version for name, version in added.items()}
        return replace(evidence, packages=Packages(kept | added_names, horovod or evidence.packages.horovod))

    return change


def facts_with(**changes: Any) -> Change:
    return lambda evidence: replace(evidence, **changes)


def on(cpus: int, own_cores: int | None = None, **quota: float) -> Change:
    last = cpus if own_cores is None else own_cores
    return ranks(cores=Cores(frozenset(range(cpus)), frozenset(range(last)), tuple(quota.items())))


def pings(between: bool, seconds: float, best: float) -> Change:
    hosts = ("a", "b" if between else "a")
    return probe(pings=(Pings(hosts, (Ping(8, seconds), Ping(2**20, 2**20 / best))),))
