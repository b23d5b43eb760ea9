from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mpi import launch
from tests.mpi.nodes import Testbed, unavailable
from tests.mpi.rank_server import RankServer
from tests.require import missing


@pytest.fixture(scope="session", params=["mpich", "openmpi"])
def mpi(request: pytest.FixtureRequest) -> launch.Mpi:
    return launch.mpich() if request.param == "mpich" else launch.open_mpi()


@pytest.fixture(scope="session")
def ranks_of_mpich(mpich: launch.Mpi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankServer]:
    """Return ranks that are started once for all tests."""
    with RankServer(mpich, 8, tmp_path_factory.mktemp("ranks")) as server:
        yield server


@pytest.fixture(scope="session")
def ranks_of_open_mpi(open_mpi: launch.Mpi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankServer]:
    """Return ranks that are started once for all tests; more than cores would wait for each other by spinning."""
    with RankServer(open_mpi, 3, tmp_path_factory.mktemp("ranks")) as server:
        yield server


@pytest.fixture(scope="session")
def testbed() -> type[Testbed]:
    """Return the class of testbeds of several nodes, where they can be."""
    if reason := unavailable():
        missing(reason)
    return Testbed


@pytest.fixture(scope="session")
def nodes(testbed: type[Testbed]) -> Iterator[Testbed]:
    """Return four nodes for all tests, with links as fast as the machine."""
    with testbed(4) as made:
        yield made
