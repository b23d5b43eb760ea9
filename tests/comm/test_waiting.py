"""When ranks of MPICH sleep while they wait, on hosts that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcnn.comm.waiting import SLEEPS, sleeps_while_waiting

FOUR = {"MPI_LOCALNRANKS": "4"}


@pytest.mark.parametrize(
    ("environ", "online", "sleeps"),
    [
        (FOUR, "0-1", True),
        (FOUR, "0-3", False),  # also where each rank is bound to one of them
        ({}, "0", False),  # srun does not say how many
        (FOUR | {SLEEPS: "0"}, "0-1", False),
        (FOUR | {SLEEPS: "Yes"}, "0-3", True),
    ],
)
def test_ranks_sleep_where_they_outnumber_the_cpus(
    environ: dict[str, str], online: str, sleeps: bool, tmp_path: Path
) -> None:
    system = tmp_path / "sys/devices/system/cpu"
    system.mkdir(parents=True)
    (system / "online").write_text(f"{online}\n")
    assert sleeps_while_waiting(environ, tmp_path) == sleeps
