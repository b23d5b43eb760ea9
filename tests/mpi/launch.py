"""Starts real ranks: mpirun of the MPI under test, each call with a time limit, each rank with one BLAS thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hpcnn.comm.waiting import SLEEPS
from tests.environment import without_the_callers
from tests.require import missing
from tests.timing import WAIT_S

ROOT = Path(__file__).parents[2]
OPEN_MPI_PREFIX = "HPCNN_OPENMPI_PREFIX"
_OPEN_MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":OVERSUBSCRIBE",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
# Of several tests at once, and of nodes that are namespaces, no rank can know that they have more ranks than cores.
_OF_MPI = {"openmpi": _OPEN_MPI_ENVIRONMENT, "mpich": {SLEEPS: "1"}}


@dataclass(frozen=True)
class Mpi:
    """One MPI: its name, the environment in which it is installed, and what its mpirun is always told."""

    name: str
    prefix: Path
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    """Of the environment, beside those that tests always set."""

    @property
    def python(self) -> str:
        return str(self.prefix / "bin" / "python")

    @property
    def mpirun(self) -> str:
        return str(self.prefix / "bin" / "mpirun")

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:
        inherited = without_the_callers(os.environ)
        own = _OF_MPI[self.name]
        path = f"{self.prefix / 'bin'}:{os.environ['PATH']}"
        return inherited | own | {"PATH": path, "PYTHONPATH": str(ROOT)} | dict(self.variables) | (extra or {})

    def start(
        self, ranks: int, *arguments: str | Path, cwd: Path, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start ``mpirun -n RANKS python ARGUMENTS``; ranks = 0 starts plain python."""
        launcher = [self.mpirun, *self.options, "-n", str(ranks)] if ranks else []
        return subprocess.Popen(
            [*launcher, self.python, *map(str, arguments)],
            cwd=cwd,
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        ranks: int,
        *arguments: str | Path,
        cwd: Path,
        timeout_s: float = WAIT_S,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; kill the whole session and fail if it takes longer than `timeout_s`."""
        process = self.start(ranks, *arguments, cwd=cwd, environment=environment)
        return finish(process, timeout_s)


def finish(process: subprocess.Popen[str], timeout_s: float = WAIT_S) -> subprocess.CompletedProcess[str]:
    """Wait for a started job."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{process.args} took longer than {timeout_s} s\n{out}\n{err}")
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def mpich() -> Mpi:
    return _installed("mpich", Path(sys.prefix), "make test installs it")


def open_mpi() -> Mpi:
    return _installed(
        "openmpi", Path(os.environ.get(OPEN_MPI_PREFIX, "/nonexistent")), f"{OPEN_MPI_PREFIX} names its environment"
    )


def ulfm() -> Mpi:
    """Return an MPI whose ranks outlive each other."""
    return replace(open_mpi(), options=("--with-ft", "ulfm"))


def _installed(name: str, prefix: Path, hint: str) -> Mpi:
    if not (prefix / "bin" / "mpirun").exists():
        missing(f"{name} is not installed in {prefix}; {hint}")
    return Mpi(name, prefix)


def sha256_of(output: str) -> str:
    """Return the hash in the last line of a training's output."""
    last = output.strip().splitlines()[-1]
    assert last.startswith("weights sha256 "), output
    return last.removeprefix("weights sha256 ")
