"""The MPI communicator against the same checks as the others, under both MPIs, with shared memory and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcnn.comm.mpi import SHARING
from tests.comm import group_checks
from tests.comm.conformance import CHECKS
from tests.mpi.launch import Mpi
from tests.mpi.rank_server import RankServer


@pytest.mark.parametrize("sharing", ["on", "off"])
@pytest.mark.parametrize(
    ("server", "ranks"),
    [*(("ranks_of_mpich", ranks) for ranks in (1, 2, 3, 4, 5)), *(("ranks_of_open_mpi", ranks) for ranks in (1, 2, 3))],
)
def test_mpi_communicator(
    request: pytest.FixtureRequest, server: str, ranks: int, sharing: str, tmp_path: Path
) -> None:
    found: RankServer = request.getfixturevalue(server)
    answers = found.call(ranks, "tests.comm.conformance:run_checks", cwd=tmp_path, environment={SHARING: sharing})
    copies = 1 if sharing == "on" else ranks
    assert [answer.value for answer in answers] == [(len(CHECKS), "MpiCommunicator", copies)] * ranks


@pytest.mark.parametrize("ranks", [2, 3])
def test_tensor_group(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    done = mpi.run(ranks, "-m", "tests.comm.group_checks", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(group_checks.CHECKS)} checks passed on {ranks} ranks" in done.stdout
