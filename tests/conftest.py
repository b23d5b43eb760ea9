"""A known environment; the order of tests; the two MPIs; a second chance for tests that watch the clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcnn.errors import MissingCoreError
from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.arithmetics import arithmetic
from tests import environment
from tests.mpi import launch
from tests.require import missing
from tests.timing import TooSlowError

environment.begin()  # before a module of tests loads what looks at it


TESTS = Path(__file__).parent
LONGEST = TESTS / "keras", TESTS / "mpi"
"""Rooms whose tests start ranks, the longest first."""
LANES = TESTS / "keras", TESTS / "slurm"
"""Rooms where `make test` looks for no timed tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take longest, so that no process is left with one of them in the end.

    A timed test that was right but late runs again, twice at most: a busy machine may be to blame.
    """
    items.sort(key=lambda item: [not item.path.is_relative_to(room) for room in LONGEST])
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[TooSlowError.__name__]))
            if any(item.path.is_relative_to(room) for room in LANES):
                raise pytest.UsageError(f"{item.nodeid} is marked `timed`, but `make test` runs no such test there")


@pytest.fixture(scope="session", params=["numpy", "native"])
def optim_arithmetic(request: pytest.FixtureRequest) -> Arithmetic:
    """What updates parameters: tests that take it hold for each arithmetic."""
    try:
        return arithmetic(request.param)
    except MissingCoreError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def mpich() -> launch.Mpi:
    return launch.mpich()


@pytest.fixture(scope="session")
def open_mpi() -> launch.Mpi:
    return launch.open_mpi()
