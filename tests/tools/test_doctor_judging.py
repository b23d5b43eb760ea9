"""What checks of the doctor make of evidence that a line of the table in `test_doctor_checks` can't describe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpcnn.system.cores import Cores
from hpcnn.tools.doctor.checks import cores, judge, memory, mpi, network, slurm
from hpcnn.tools.doctor.evidence import FileSystem, Probe, Program
from hpcnn.tools.doctor.finding import OK, PROBLEM, WARNING
from tests.tools.doctor_evidence import (
    BY_OPEN_MPI,
    BY_SRUN,
    EIGHT,
    MPICH,
    NODES,
    RANKS,
    SOUND,
    job,
    nodes,
    on,
    pings,
    probe,
)


def test_facts_of_one_rank_alone_do_not_speak_for_all() -> None:
    broken = replace(SOUND, ranks=RANKS[:1], nodes=NODES[:1], probe=Probe(stage="starting MPI", error="it broke"))
    names = [one.check for one in judge(broken)]
    assert "launcher" in names
    assert "memory" not in names
    assert "ranks and cores" not in names


@pytest.mark.parametrize(
    ("error", "levels"),
    [("it broke", []), ("/dev/shm has 16 MB free: not started", [PROBLEM]), ("EXIT STRING: Bus error", [PROBLEM])],
)
def test_ranks_that_are_not_known_count_as_neighbours_only_if_shm_is_to_blame(error: str, levels: list[str]) -> None:
    """Of 128 ranks on many nodes that did not connect, each knows but itself."""
    many = replace(SOUND, launch=replace(SOUND.launch, size=128), ranks=RANKS[:1], nodes=NODES[:1])
    small = nodes(shm=FileSystem("/dev/shm", free=2**24))(probe(error=error)(many))
    assert [one.level for one in memory.check_shm(small)] == levels
    lacking = nodes(shm=FileSystem("/dev/shm", trouble="not allowed"))(small)
    assert [one.level for one in memory.check_shm(lacking)] == [PROBLEM]


def test_the_most_crowded_node_is_named_by_what_its_groups_allow() -> None:
    """Eight CPUs each: on a, a group each; on b, one of less than two CPUs for both ranks."""
    limited = [
        replace(one, cores=Cores(EIGHT, EIGHT, ((f"job/{one.rank}", 1.0) if one.host == "a" else ("job", 1.5),)))
        for one in RANKS
    ]
    (found,) = cores.check_oversubscription(replace(SOUND, ranks=tuple(limited)))
    assert found.fix == "mpirun -n 1 python -m hpcnn.train JOB   # on b"


def test_a_launcher_that_does_not_say_its_mpi_is_not_strange() -> None:
    silent = replace(SOUND, launchers=(MPICH, Program("/c/bin/mpirun", "")))
    assert [one.level for one in mpi.check_other_mpis(silent)] == [OK]


def test_crowded_ranks_are_not_blamed_on_messages() -> None:
    slow = pings(False, 1.0, 1e3)(SOUND)
    assert [one.level for one in network.check_messages(slow)] == [WARNING]
    assert [one.level for one in network.check_messages(on(1)(slow))] == [OK]


def test_bound_ranks_are_told_to_let_go() -> None:
    """Two of four ranks on the first of two CPUs, and none beside them but one."""
    bound = tuple(
        replace(one, host="a", cores=Cores(frozenset({cpu}), frozenset({cpu})))
        for one, cpu in zip(RANKS, (0, 0, 1, 2), strict=True)
    )
    free = (*bound[:3], replace(bound[3], cores=Cores(frozenset({2, 3}), frozenset({2, 3}))))
    (found,) = cores.check_oversubscription(replace(SOUND, ranks=free))
    assert found.level == WARNING
    assert "--bind-to none" in found.fix


@pytest.mark.parametrize(("kinds", "mends"), [(("pmi2",), "srun --mpi=pmi2 -n 4"), ((), "/m/bin/mpirun -n 4")])
def test_in_slurm_srun_is_what_mends_a_launcher(kinds: tuple[str, ...], mends: str) -> None:
    (found,) = mpi.check_launcher(replace(job(mpi_kinds=kinds)(SOUND), launch=BY_OPEN_MPI))
    assert found.fix.startswith(mends)


def test_of_the_kinds_of_srun_the_best_is_named() -> None:
    (found,) = slurm.check_mpi_kinds(job(mpi_kinds=("cray_shasta", "pmi2"))(SOUND))
    assert found.what == "srun --mpi=pmi2 fits MPICH"


def test_srun_may_be_of_any_mpi() -> None:
    assert [one.level for one in mpi.check_launcher(replace(SOUND, launch=BY_SRUN))] == [OK]
