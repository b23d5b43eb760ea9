"""A Horovod that is not there, or is not for this TensorFlow or this MPI: one clear message each, before any sum."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from hpcnn.comm.exchange import horovod_exchange as horovod
from hpcnn.comm.exchange.horovod_exchange import connect_horovod, horovod_exchange
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.errors import CommunicatorError, HpcnnError, MissingExtraError
from tests.timing import WAIT_S

TENSORFLOW = "2.21.0"
WORKS = "init = lambda: None\nsize = lambda: 1\nrank = lambda: 0\n"
Patch = pytest.MonkeyPatch


@pytest.fixture
def site(monkeypatch: Patch, tmp_path: Path) -> Path:
    """Install a Horovod and a TensorFlow that do nothing, but fit each other; return where Horovod lies."""
    tensorflow = ModuleType("tensorflow")
    tensorflow.__spec__ = ModuleSpec("tensorflow", None)
    vars(tensorflow).update(__version__=TENSORFLOW, errors=SimpleNamespace(OpError=ArithmeticError))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    for name in [name for name in sys.modules if name.partition(".")[0] == "horovod"]:
        monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "horovod"
    (package / "tensorflow").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "metadata.json").write_text(json.dumps({"tensorflow": TENSORFLOW}))
    (package / "tensorflow" / "__init__.py").write_text(WORKS)
    (package / "tensorflow" / "mpi_lib.cpython.so").write_bytes(b"\x7fELF\0libmpi.so.12\0libstdc++.so.6\0")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("HPCNN_COMM", raising=False)
    monkeypatch.setattr(horovod, "_loaded_mpi", lambda: ["libmpi.so.12.5.2"])
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "horovod"]:
        monkeypatch.delitem(sys.modules, name)


def refused(comm: Communicator | None = None) -> str:
    with pytest.raises(HpcnnError) as caught:
        connect_horovod(comm or SerialCommunicator())
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_horovod_that_fits(site: Path) -> None:
    assert connect_horovod(SerialCommunicator()).size() == 1


def test_no_tensorflow(site: Path, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r"Horovod needs the package 'tensorflow'.*hpcnn\[keras\]"):
        connect_horovod(SerialCommunicator())


def test_no_horovod(site: Path) -> None:
    (site / "tensorflow" / "mpi_lib.cpython.so").unlink()
    assert refused() == (
        "Horovod is not installed. Build it for what is installed: hpcnn horovod build; "
        'or let hpcnn add the gradients itself: keras.comm = "mpi"'
    )


@pytest.mark.parametrize(
    ("metadata", "said"),
    [('{"tensorflow": "2.18.1"}', "2.18.1"), ('{"pytorch": "2"}', "an unknown version"), ("[", "an unknown version")],
)
def test_horovod_of_another_tensorflow(site: Path, metadata: str, said: str) -> None:
    (site / "metadata.json").write_text(metadata)
    expected = f"Horovod was built for TensorFlow {said}, but 2.21.0 is installed. Build it for what is installed: "
    assert refused().startswith(expected)


def test_horovod_of_another_mpi(site: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(horovod, "_loaded_mpi", lambda: ["libmpi.so.40.40.7"])
    expected = "Horovod was built for the MPI of libmpi.so.12, but mpi4py uses libmpi.so.40.40.7: every rank would be "
    assert refused().startswith(expected)


def test_without_mpi4py_any_mpi_fits(site: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(horovod, "_loaded_mpi", list)
    connect_horovod(SerialCommunicator())


def test_another_copy_of_the_same_mpi(site: Path, monkeypatch: Patch) -> None:
    mpi4py(monkeypatch, "MPICH Version: 5.0.2\nbuilt here", threads=3)
    monkeypatch.setattr(horovod, "_version_seen_by", lambda library: "MPICH Version: 4.1\nbuilt there")
    assert "the MPI of MPICH Version: 4.1, but mpi4py uses MPICH Version: 5.0.2:" in refused()


@pytest.mark.parametrize("threads", [2, 3])
def test_mpi_without_threads(site: Path, monkeypatch: Patch, threads: int) -> None:
    mpi4py(monkeypatch, "MPICH", threads=threads)
    monkeypatch.setattr(horovod, "_version_seen_by", lambda library: "MPICH")
    if threads == 3:
        connect_horovod(SerialCommunicator())
    else:
        assert refused().startswith("Horovod calls MPI from a thread of its own, which this MPI does not allow.")


def mpi4py(monkeypatch: Patch, library: str, *, threads: int) -> None:
    mpi = SimpleNamespace(Get_library_version=lambda: library + "\0", Query_thread=lambda: threads, THREAD_MULTIPLE=3)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=mpi))
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)


@pytest.mark.parametrize("error", ["ImportError", "OSError", "__import__('tensorflow').errors.OpError"])
def test_horovod_that_can_not_be_loaded(site: Path, error: str) -> None:
    (site / "tensorflow" / "__init__.py").write_text(f"raise {error}('undefined symbol')")
    assert refused().startswith("Horovod can't be loaded: undefined symbol. Build it for what is installed: ")


def test_ranks_that_are_alone(site: Path) -> None:
    def check(comm: Communicator) -> None:
        assert "Horovod takes this for rank 0 of 1, but it is rank" in refused(comm)

    run_threads(2, check, timeout_s=WAIT_S)


def test_more_ranks_than_shards(site: Path) -> None:
    def check(comm: Communicator) -> None:
        with pytest.raises(CommunicatorError, match="3 ranks for 2 gradient shards"):
            horovod_exchange(comm, 2, 10, "float32", 1)

    run_threads(3, check, timeout_s=WAIT_S)


def test_serial_is_no_choice(site: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("HPCNN_COMM", "serial")
    assert refused().startswith("HPCNN_COMM=serial runs without MPI, but Horovod needs it. Unset HPCNN_COMM, or let ")
