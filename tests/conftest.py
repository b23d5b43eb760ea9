"""A known environment; the two MPIs, for all tests that start ranks; a second chance for those that watch the clock."""

from __future__ import annotations

import pytest

from tests import environment
from tests.mpi import launch
from tests.timing import TooSlowError

environment.begin()  # before a module of tests loads what looks at it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have a timed test that was right but late run again, twice at most: a busy machine may be to blame."""
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[TooSlowError.__name__]))


@pytest.fixture(scope="session")
def mpich() -> launch.Mpi:
    return launch.mpich()


@pytest.fixture(scope="session")
def open_mpi() -> launch.Mpi:
    return launch.open_mpi()
