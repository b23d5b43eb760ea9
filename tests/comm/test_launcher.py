from __future__ import annotations

import pytest

from hpcnn.comm.connect import connect
from hpcnn.comm.launcher import Launch, detect_foreign, detect_launch
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


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}
DEEPSPEED = {"WORLD_SIZE": "8", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "node1"}
GLOO = {"HOROVOD_SIZE": "3", "HOROVOD_RANK": "2", "HOROVOD_GLOO_RENDEZVOUS_ADDR": "node1"}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        (TORCHRUN, ("torchrun", 2, 1)),
        (DEEPSPEED, ("a launcher of PyTorch's kind (deepspeed, accelerate, Ray)", 8, 3)),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "pod-0"}, ("a launcher of PyTorch's kind", 2, 0)),
        (GLOO, ("horovodrun with Gloo", 3, 2)),
        ({}, None),
        (TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}, None),
        (MPICH | TORCHRUN, None),  # ranks of MPI that set the variables for another program
        (OPEN_MPI | DEEPSPEED, None),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"} | DEEPSPEED, None),  # mpirun -n 1
        ({"WORLD_SIZE": "8", "RANK": "0"}, None),  # names that a batch script may use as it likes
        ({"WORLD_SIZE": "8", "MASTER_ADDR": "node1"}, None),
        (TORCHRUN | {"WORLD_SIZE": "many"}, None),
    ],
)
def test_launchers_without_mpi(environ: dict[str, str], found: tuple[str, int, int] | None) -> None:
    launch = detect_foreign(environ)
    if launch is None or found is None:
        assert launch is found
    else:
        assert launch.launcher.startswith(found[0])
        assert (launch.size, launch.rank) == found[1:]


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in (MPICH, OPEN_MPI, SRUN, TORCHRUN, DEEPSPEED, GLOO, {"HPCNN_COMM": ""}):
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

    @pytest.mark.parametrize("rank", [0, 1])
    def test_launchers_without_mpi_are_refused(self, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
        """One message: the others wait, and their launcher ends them."""
        waits: list[float] = []
        monkeypatch.setattr("hpcnn.comm.connect.time.sleep", waits.append)
        for name, value in {**TORCHRUN, "RANK": str(rank)}.items():
            monkeypatch.setenv(name, value)
        words = r"torchrun started 2 processes, of which MPI knows nothing.*mpirun -n 2\..*set HPCNN_COMM=serial\."
        with pytest.raises(CommunicatorError, match=words) as refused:
            connect()
        assert refused.value.exit_code == 2
        assert len(waits) == rank
        monkeypatch.setenv("HPCNN_COMM", "serial")
        assert isinstance(connect(), SerialCommunicator)

    def test_unknown_choice(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HPCNN_COMM", "gloo")
        with pytest.raises(CommunicatorError, match="'gloo' is neither 'mpi' nor 'serial'"):
            connect()
