from __future__ import annotations

import pytest

from hpcnn.comm.connect import connect
from hpcnn.comm.launcher import Launch, detect_launch
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.errors import CommunicatorError

MPICH = {"PMI_SIZE": "4", "PMI_RANK": "2"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "0"}
SRUN = {"SLURM_STEP_NUM_TASKS": "5", "SLURM_PROCID": "4"}


@pytest.mark.parametrize(
    ("environ", "size", "rank"),
    [
        ({}, 1, 0),
        (MPICH, 4, 2),
        (OPEN_MPI, 3, 0),
        (SRUN, 5, 4),
        (SRUN | MPICH, 4, 2),  # mpirun in an allocation: its daemons are an srun step of their own
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, 1, 0),  # the batch script itself
        ({"PMI_SIZE": "4"}, 1, 0),
        ({"PMI_SIZE": "four", "PMI_RANK": "0"}, 1, 0),
    ],
)
def test_detect_launch(environ: dict[str, str], size: int, rank: int) -> None:
    launch = detect_launch(environ)
    assert (launch.size, launch.rank) == (size, rank)


def test_launch_is_named() -> None:
    assert "Open MPI" in detect_launch(OPEN_MPI).launcher
    assert detect_launch({}) == Launch("no launcher", 1, 0)


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (MPICH, OPEN_MPI, SRUN, {"HPCNN_COMM": ""}):
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_plain")
class TestConnect:
    def test_without_a_launcher(self) -> None:
        assert isinstance(connect(), SerialCommunicator)

    def test_serial_by_choice_under_a_launcher(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PMI_SIZE", "2")
        monkeypatch.setenv("PMI_RANK", "0")
        monkeypatch.setenv("HPCNN_COMM", "serial")
        with pytest.raises(CommunicatorError, match=r"HPCNN_COMM=serial, but .* started 2 processes"):
            connect()

    def test_unknown_choice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HPCNN_COMM", "gloo")
        with pytest.raises(CommunicatorError, match="'gloo' is neither 'mpi' nor 'serial'"):
            connect()
