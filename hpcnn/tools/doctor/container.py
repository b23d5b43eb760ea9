"""The container that this process runs in, and how its launcher can be reached from there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from hpcnn.system.control_groups import read_text
from hpcnn.tools.doctor.evidence import Container, family

_IMAGES = ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")
_SIGNS = (("Apptainer", ".singularity.d"), ("Docker", ".dockerenv"), ("Podman", "run/.containerenv"))
"""Engines, each with what it puts into the root of its containers."""
_GROUPS = (("Kubernetes", r"kubepods"), ("Podman", r"libpod"), ("Docker", r"docker"), ("containerd", r"containerd|lxc"))
"""Engines, each with what is in the names of its control groups."""
_LIBRARY = re.compile(r"/lib(mpi|mpich)(_\w+)?\.so[.\d]*$")
HOSTS_NAMESPACE = "user:[4026531837]"
"""The user namespace of a machine itself: its number is the same everywhere."""
SPOKEN = {"MPICH": ("PMI",), "Open MPI": ("PMIx",), "": ("PMI", "PMIx")}
"""The interfaces by which ranks of an MPI find each other. Some builds of MPICH know PMIx as well."""


def find_container(environ: Mapping[str, str], root: Path = Path("/")) -> Container | None:
    """Return the container of this process; None outside of one. `root` is where the file system starts."""
    image = next((environ[name] for name in _IMAGES if environ.get(name)), "")
    engines = [name for name, sign in _SIGNS if (root / sign).exists()]
    groups = read_text(root / "proc/1/cgroup")
    engines += [name for name, pattern in _GROUPS if re.search(pattern, groups)]
    if image:
        engines.insert(0, "Apptainer")
    if not engines:
        return None
    return Container(engines[0], image, tuple(offered_interfaces(environ)), unreachable_launcher(environ, root))


def user_namespace() -> str:
    """Return the user namespace of this process, as ``user:[4026531837]``; empty if the system does not say."""
    try:
        return str(Path("/proc/self/ns/user").readlink())
    except OSError:
        return ""


def offered_interfaces(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the process management interfaces that the launcher offers this rank.

    >>> [*offered_interfaces({"PMI_FD": "5", "PMI_RANK": "0"})], [*offered_interfaces({"PMIX_RANK": "0"})]
    (['PMI'], ['PMIx'])
    """
    if environ.get("PMI_FD") or environ.get("PMI_PORT"):
        yield "PMI"
    if environ.get("PMIX_RANK"):
        yield "PMIx"


def unreachable_launcher(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """Return the variable by which the launcher names what is not there; empty if nothing is missing.

    >>> unreachable_launcher({"PMIX_SERVER_TMPDIR": "/none/pmix.1.0"})
    'PMIX_SERVER_TMPDIR=/none/pmix.1.0'
    """
    file = environ.get("PMI_FD", "")
    if file.isdecimal():
        try:
            os.fstat(int(file))
        except OSError:
            return f"PMI_FD={file}"
    folder = environ.get("PMIX_SERVER_TMPDIR", "")
    return f"PMIX_SERVER_TMPDIR={folder}" if folder and not (root / folder.lstrip("/")).is_dir() else ""


def loaded_library(maps: str) -> str:
    """Return the file of the MPI library that a process has loaded, given the text of its /proc/PID/maps.

    >>> loaded_library("7f00-7f01 r-xp 0 08:01 5   /a/lib/libmpi.so.12"), loaded_library("7f00 r-xp /lib/libc.so.6")
    ('/a/lib/libmpi.so.12', '')
    """
    files = (line.split(maxsplit=5)[-1].strip() for line in maps.splitlines() if "/" in line)
    return next((file for file in files if _LIBRARY.search(file)), "")


def in_container(container: Container | None, command: str, library: str = "", *, options: str = "") -> str:
    """Return how a command is run in a container from outside of it, with `options` of the engine.

    `library` is the MPI: with it, srun starts two ranks.

    >>> in_container(Container("Apptainer", "/a/hpcnn.sif"), "python -m hpcnn.doctor", "MPICH 5")
    'srun --mpi=pmi2 -n 2 apptainer exec /a/hpcnn.sif python -m hpcnn.doctor'
    >>> in_container(Container("Docker"), "hpcnn doctor", options="--ipc=host")
    'docker run --ipc=host IMAGE hpcnn doctor'
    """
    engine, image = (container.engine, container.image) if container else ("Apptainer", "")
    run = {"Apptainer": "apptainer exec", "Podman": "podman run"}.get(engine, "docker run")
    launcher = {"MPICH": "srun --mpi=pmi2 -n 2", "Open MPI": "srun --mpi=pmix -n 2"}.get(family(library), "")
    return " ".join(filter(None, [launcher, run, options, image or "IMAGE", command]))
