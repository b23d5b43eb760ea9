"""The MPI communicator against the same checks as the others, under both MPIs, with shared memory and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.comm import group_checks
from tests.comm.conformance import CHECKS
from tests.mpi.launch import Mpi


# More ranks of Open MPI than cores wait for each other by spinning.
@pytest.mark.parametrize(
    ("mpi", "ranks"),
    [*(("mpich", ranks) for ranks in (1, 2, 3, 4, 5)), *(("openmpi", ranks) for ranks in (1, 2, 3))],
    indirect=["mpi"],
)
def test_mpi_communicator(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    # HPCNN_COMM=mpi: one rank under mpirun would otherwise need no MPI.
    done = mpi.run(ranks, "-m", "tests.comm.conformance", cwd=tmp_path, environment={"HPCNN_COMM": "mpi"})
    assert done.returncode == 0, done.stderr
    passed = f"{len(CHECKS)} checks passed on {ranks} ranks as MpiCommunicator, copies of an array:"
    assert done.stdout.splitlines() == [f"{passed} 1", f"{passed} {ranks}"], done.stdout


@pytest.mark.parametrize("ranks", [2, 3])
def test_tensor_group(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    done = mpi.run(ranks, "-m", "tests.comm.group_checks", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(group_checks.CHECKS)} checks passed on {ranks} ranks" in done.stdout
