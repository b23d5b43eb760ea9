"""The MPI communicator against the same checks as the others, under both MPIs, with shared memory and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hpcnn.comm.exchange.choice import CHOICE, HALVING
from hpcnn.comm.mpi import SHARING
from hpcnn.comm.protocol import Communicator
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


@pytest.mark.parametrize(("server", "ranks"), [("ranks_of_mpich", 5), ("ranks_of_open_mpi", 3)])
def test_mpi_communicator_by_halving(request: pytest.FixtureRequest, server: str, ranks: int, tmp_path: Path) -> None:
    found: RankServer = request.getfixturevalue(server)
    environment = {SHARING: "off", CHOICE: HALVING}
    answers = found.call(ranks, "tests.comm.conformance:run_checks", cwd=tmp_path, environment=environment)
    assert [answer.value for answer in answers] == [(len(CHECKS), "MpiCommunicator", ranks)] * ranks


@pytest.mark.parametrize("exchange", ["direct", "halving", ""])
def test_the_exchange_that_is_asked_for(ranks_of_mpich: RankServer, exchange: str, tmp_path: Path) -> None:
    """And without a choice the network is measured: all ranks come to the same."""
    environment = {SHARING: "off", CHOICE: exchange}
    answers = ranks_of_mpich.call(3, f"{__name__}:route_of_an_exchange", cwd=tmp_path, environment=environment)
    routes = {answer.value for answer in answers}
    assert len(routes) == 1
    assert routes <= {"DirectRoute", "HalvingRoute"}
    assert not exchange or routes == {{"direct": "DirectRoute", "halving": "HalvingRoute"}[exchange]}


def route_of_an_exchange(comm: Communicator) -> str:
    target = comm.host_array(5000, np.float32, shared=True)
    return type(comm.sharded_exchange(8, target, 5000, 1)._route).__name__


@pytest.mark.parametrize("ranks", [2, 3])
def test_tensor_group(mpi: Mpi, ranks: int, tmp_path: Path) -> None:
    done = mpi.run(ranks, "-m", "tests.comm.group_checks", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{len(group_checks.CHECKS)} checks passed on {ranks} ranks" in done.stdout
