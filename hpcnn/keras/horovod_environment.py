"""What Horovod is built from and for: this Python, its TensorFlow, and the one MPI of its environment.

Each is asked in a process of its own, as ranks will see it. Parts that don't fit are refused, with the fix.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcnn.errors import CommunicatorError, MissingExtraError, shortened

DEFAULT_LAUNCHER = ("mpirun", "-n", "2")

_TENSORFLOW = "import tensorflow as tf; print(tf.__version__); print(tf.sysconfig.get_include())"
_MPI4PY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version().splitlines()[0].rstrip(chr(0)))
"""
_SIZE = "import sys; from mpi4py import MPI; sys.stdout.write(f'size {MPI.COMM_WORLD.size};')"
_LIBRARY_OF_COMPILER = """
#include <cstdio>
#include <mpi.h>
int main() {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;
    MPI_Get_library_version(text, &length);
    std::puts(text);
}
"""
_ASK_S = 300.0
"""How long one query may take: importing TensorFlow takes minutes on a slow file system."""


@dataclass(frozen=True)
class Environment:
    """The environment that a Horovod is built for: it works in no other."""

    tensorflow: str
    """The exact version."""
    include: Path
    """The folder of its headers."""
    mpi: str
    """Name and version of the library."""
    compiler: Path
    """Its mpicxx."""

    @property
    def key(self) -> str:
        """A folder name that identifies this environment."""
        mpi = re.sub(r"[^A-Za-z0-9.]+", "-", self.mpi).strip("-")
        return f"{sysconfig.get_config_var('SOABI')}_tensorflow-{self.tensorflow}_{mpi}"


def find_environment(launcher: Sequence[str] = DEFAULT_LAUNCHER) -> Environment:
    """Return the environment that Horovod must be built for.

    Args:
        launcher: the command that starts two ranks or more.

    Raises:
        MissingExtraError: TensorFlow or mpi4py is not installed.
        CommunicatorError: there is no MPI, no compiler, or they and the launcher are of different MPIs.
    """
    for package, extra in (("tensorflow", "keras"), ("mpi4py", "mpi")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra, "Horovod, as hpcnn builds it,")
    mpi = _library_of_mpi4py()
    compiler = _find_compiler(mpi)
    _check_same(mpi, compiler, _library_of(compiler))
    _check_launcher(launcher, mpi)
    version, include = _answer(_ask([sys.executable, "-P", "-c", _TENSORFLOW]), "TensorFlow can't be imported")[-2:]
    return Environment(version, Path(include), mpi, compiler)


def search_path() -> str:
    """Return the search path of programs: beside this Python first, whether its environment is active or not."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def rank_environment() -> dict[str, str]:
    """Return environment variables for the ranks of a short check, on one core, as root, or in a container too."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    crowded = {"PRTE_MCA_rmaps_default_mapping_policy": ":OVERSUBSCRIBE", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    return quiet | crowded | root | os.environ | {"PATH": search_path()}


def _ask(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=rank_environment(),
            timeout=_ASK_S,
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not found")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {_ASK_S:.0f} s")


def _answer(done: subprocess.CompletedProcess[str], trouble: str) -> list[str]:
    """Return the output lines, or raise an error with the last error line."""
    if done.returncode != 0 or not done.stdout.strip():
        raise CommunicatorError(f"{trouble}: {last_line(done.stderr) or f'exit code {done.returncode}'}")
    return done.stdout.strip().splitlines()


def last_line(text: str) -> str:
    """Return the last non-empty line of `text`, shortened for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return shortened(lines[-1]) if lines else ""


def short_library(text: str) -> str:
    """Return the name and version of an MPI library from its description.

    >>> short_library("Open MPI v5.0.11, package: Open MPI of somebody")
    'Open MPI v5.0.11'
    >>> short_library("MPICH Version:      5.0.2")
    'MPICH Version: 5.0.2'
    """
    return " ".join(text.split(",")[0].split())


def _library_of_mpi4py() -> str:
    trouble = (
        "mpi4py can't load an MPI library. Install one beside it: pip install 'hpcnn[mpi]' (MPICH), or load your "
        "cluster's MPI module. It says"
    )
    return short_library(_answer(_ask([sys.executable, "-P", "-c", _MPI4PY]), trouble)[-1])


def _find_compiler(mpi: str) -> Path:
    found = shutil.which("mpicxx", path=search_path())
    if found is None:
        raise CommunicatorError(
            f"there is no mpicxx on the path, so Horovod can't be built for {mpi}, which mpi4py uses. "
            "Install one beside it: pip install 'hpcnn[mpi]' (MPICH), or load your cluster's MPI module."
        )
    return Path(found)


def _library_of(compiler: Path) -> str:
    """Return the MPI library of a compiler, from a program compiled with it."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "library.cc"), Path(folder, "library")
        source.write_text(_LIBRARY_OF_COMPILER, encoding="utf-8")
        done = _ask([compiler, "-DOMPI_SKIP_MPICXX", source, "-o", program])
        if done.returncode != 0:
            raise CommunicatorError(
                f"{compiler} can't compile a small program: {last_line(done.stderr)}. It needs a C++ compiler. "
                "On Debian and Ubuntu: apt install g++; on a cluster, load the compiler's module."
            )
        return short_library(_answer(_ask([program]), f"a program compiled with {compiler} does not run")[0])


def _check_same(mpi: str, compiler: Path, of_compiler: str) -> None:
    if mpi != of_compiler:
        raise CommunicatorError(
            f"mpi4py uses {mpi}, but {compiler} is of {of_compiler}: with a Horovod built by it every rank would be "
            "alone. Put the mpicxx of the first before it on the path (pip install 'hpcnn[mpi]' brings one for MPICH), "
            "or install mpi4py for the second: pip install --force-reinstall --no-binary mpi4py mpi4py"
        )


def _check_launcher(launcher: Sequence[str], mpi: str) -> None:
    """Check that the launcher starts ranks that see each other."""
    name = " ".join(launcher)
    done = _ask([*launcher, sys.executable, "-P", "-c", _SIZE])
    sizes = [int(word) for word in re.findall(r"size (\d+);", done.stdout)]
    if done.returncode != 0 or not sizes:
        raise CommunicatorError(
            f"{name!r} could not start ranks of {mpi}: {last_line(done.stderr) or f'exit code {done.returncode}'}. "
            "Name what starts two: --launcher 'srun -n 2'"
        )
    if set(sizes) != {len(sizes)} or len(sizes) < 2:
        found = shutil.which(launcher[0], path=search_path())
        started = f"{len(sizes)} processes that see" if len(sizes) > 1 else "1 process that sees"
        raise CommunicatorError(
            f"{name!r} started {started} a world of {sizes[0]}. Either it starts just one, or "
            f"{found} is not of {mpi}, which mpi4py uses. Put the mpirun of that library first on the path, or name "
            "what starts two ranks of it: --launcher 'srun --mpi=pmi2 -n 2' (MPICH), 'srun --mpi=pmix -n 2' (Open MPI)"
        )
