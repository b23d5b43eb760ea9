from __future__ import annotations

import pytest

from tests.mpi import launch


@pytest.fixture(scope="session")
def mpich() -> launch.Mpi:
    return launch.mpich()


@pytest.fixture(scope="session")
def open_mpi() -> launch.Mpi:
    return launch.open_mpi()


@pytest.fixture(scope="session", params=["mpich", "openmpi"])
def mpi(request: pytest.FixtureRequest) -> launch.Mpi:
    return launch.mpich() if request.param == "mpich" else launch.open_mpi()
