"""The two MPIs, for all tests that start ranks."""

from __future__ import annotations

import pytest

from tests.mpi import launch


@pytest.fixture(scope="session")
def mpich() -> launch.Mpi:
    return launch.mpich()


@pytest.fixture(scope="session")
def open_mpi() -> launch.Mpi:
    return launch.open_mpi()
