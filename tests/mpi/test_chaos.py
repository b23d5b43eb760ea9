"""A few runs of the chaos test; ``python -m tests.chaos`` does as many as one likes."""

from __future__ import annotations

import pytest

from tests.chaos import chaos
from tests.mpi.launch import mpich, open_mpi, ulfm

pytestmark = pytest.mark.timed


def test_runs_fail_and_are_resumed() -> None:
    tally = chaos(range(6), 2, [mpich(), open_mpi()], survivors=False)
    assert not tally.wrong, tally.wrong
    assert sum(tally.faults.values())


@pytest.mark.parametrize("survivors", [False, True])
def test_runs_are_struck_from_outside(survivors: bool) -> None:
    """At any moment from the start of mpirun on: they go on or end, and never hang."""
    mpis = [ulfm()] if survivors else [mpich(), open_mpi()]
    tally = chaos(range(3), 2, mpis, survivors=survivors, outside=True)
    assert not tally.wrong, tally.wrong
    assert sum(tally.faults.values())


def test_ranks_die_and_others_carry_on() -> None:
    tally = chaos(range(4), 2, [ulfm()], survivors=True)
    assert not tally.wrong, tally.wrong
    assert tally.faults["kill"]
