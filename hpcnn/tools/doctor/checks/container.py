"""Checks of a container: what of the host and of the launcher ranks find in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpcnn.tools.doctor.checks.mpi import fitting_command
from hpcnn.tools.doctor.container import HOSTS_NAMESPACE, SPOKEN, in_container
from hpcnn.tools.doctor.evidence import Container, Evidence
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_MEMORY = ("tmpfs", "ramfs", "unknown")
_OWN_LAYERS = ("overlay", "fuse-overlayfs", "fuse.fuse-overlayfs", "aufs", "squashfs", "fuse.squashfuse_ll")
"""Kinds of file systems that hold an image, or what a container writes into it."""
_SHARED = {"Apptainer": "--sharens", "Docker": "--pid=host --ipc=host", "Podman": "--pid=host --ipc=host"}
_DOCTOR = "python -m hpcnn.doctor"


def check_container(evidence: Evidence) -> Iterator[Finding]:
    """All nodes run the same container, or none."""
    name = "container"
    by_host = {node.host: node.container for node in evidence.nodes}
    kinds = {(one.engine, one.image) if one else None for one in by_host.values()}
    first = evidence.container
    if len(kinds) > 1:
        shown = "; ".join(f"{host}: {_title(one)}" for host, one in by_host.items())
        yield problem(name, f"not the same on all nodes: {shown}", in_container(first, _DOCTOR, evidence.probe.library))
    elif first is not None:
        yield ok(name, f"ranks run in {_title(first)}")


def _title(container: Container | None) -> str:
    if container is None:
        return "none"
    return f"{container.engine}, {container.image}" if container.image else container.engine


def check_mpi(evidence: Evidence) -> Iterator[Finding]:
    """The MPI library, of the image or bound from the host, has an interface that mpi4py knows."""
    probe, container = evidence.probe, evidence.container
    if container is None or not probe.library_file:
        return
    if not probe.library:
        yield problem(
            "container MPI",
            f"{probe.library_file} was found, but mpi4py {evidence.packages.versions.get('mpi4py', '')} has no module "
            "for its ABI: its packages know those of libmpi.so.12 (MPICH) and libmpi.so.40 (Open MPI)",
            in_container(container, _DOCTOR, options="--env MPI4PY_LIBMPI=/opt/mpich/lib/libmpi.so.12"),
        )
        return
    own = probe.library_mount in ("/", "")
    yield ok("container MPI", f"{probe.library_file}, {'of the image' if own else f'bound at {probe.library_mount}'}")


def check_launcher(evidence: Evidence) -> Iterator[Finding]:
    """The launcher, which is outside, can be reached by the interface that the MPI library knows."""
    container, name = evidence.container, "container PMI"
    if container is None or not evidence.started:
        return
    offered, library = " and ".join(container.interfaces), evidence.probe.library
    known = [one for one in SPOKEN[evidence.mpi] if one in container.interfaces]
    if evidence.probe.size == evidence.launch.size:
        yield ok(name, f"the launcher offers {offered or 'what this MPI knows'}")
    elif container.unreachable:
        folder = container.unreachable.partition("=")[2]
        bound = in_container(container, _DOCTOR, library, options=f"--bind {Path(folder).parent}")
        fix = bound if folder.startswith("/") else fitting_command(evidence)
        yield problem(name, f"{container.unreachable} is not in the container: ranks can't reach their launcher", fix)
    elif not offered:
        yield problem(
            name,
            f"{evidence.launch.launcher} started {evidence.launch.size} processes, but offers no PMI in the container: "
            "each would be alone",
            f"{fitting_command(evidence)}   # without --cleanenv and --contain",
        )
    elif not known:
        what = f"the launcher offers {offered}, but {library} in the container does not use that"
        yield problem(name, what, fitting_command(evidence))


def check_namespaces(evidence: Evidence) -> Iterator[Finding]:
    """The ranks of a node may read each other's memory, which MPICH needs to start."""
    container, own = evidence.container, evidence.ranks[0].user_namespace
    if container is None or evidence.launch.size == 1 or not own:
        return
    if evidence.probe.error and own != HOSTS_NAMESPACE:
        yield problem(
            "container ranks",
            "the ranks failed, in user namespaces that are not the machine's: if each has its own, they can't read "
            "each other's memory",
            in_container(container, _DOCTOR, evidence.probe.library, options=_SHARED.get(container.engine, "")),
        )
    elif evidence.connected:
        spaces = {(rank.host, rank.user_namespace) for rank in evidence.ranks}
        each = "in common" if len(spaces) == len(evidence.nodes) else "of their own"
        yield ok("container ranks", f"have user namespaces {each}")


def check_shm(evidence: Evidence) -> Iterator[Finding]:
    """/dev/shm is memory."""
    for node in evidence.nodes:
        if node.container is None or node.shm.trouble or node.shm.kind in _MEMORY:
            continue
        options = "--bind /dev/shm" if node.container.engine == "Apptainer" else "--ipc=host"
        what = f"/dev/shm on {node.host} is {node.shm.kind}, which is no memory: messages within a node are slow"
        yield warning("container /dev/shm", what, in_container(node.container, _DOCTOR, options=options))
        return
    if evidence.container is not None and evidence.nodes[0].shm.kind != "unknown":
        free = evidence.nodes[0].shm.free / 2**20
        yield ok("container /dev/shm", f"{evidence.nodes[0].shm.kind}, {free:,.0f} MB free")


def check_run_folder(evidence: Evidence) -> Iterator[Finding]:
    """The run folder is outside of the container, which may be read-only and goes with its ranks."""
    name = "container files"
    for node in evidence.nodes:
        folder = node.run_folder
        if node.container is None or folder.mount != "/":
            continue
        option = "--bind" if node.container.engine == "Apptainer" else "-v"
        bound = folder.folder if option == "--bind" else f"{folder.folder}:{folder.folder}"
        fix = f"{in_container(node.container, _DOCTOR, options=f'{option} {bound}')} --out {folder.folder}"
        if folder.trouble:
            yield problem(name, f"{folder.folder} on {node.host} is in the image, and not bound: {folder.trouble}", fix)
            return
        if folder.kind in _OWN_LAYERS:
            what = f"{folder.folder} on {node.host} is in the container ({folder.kind}), and goes with it"
            yield warning(name, what, fix)
            return
    if evidence.container is not None and evidence.nodes[0].run_folder.mount not in ("", "/"):
        yield ok(name, f"the run folder is mounted at {evidence.nodes[0].run_folder.mount}, outside of the image")


def check_data(evidence: Evidence) -> Iterator[Finding]:
    """The data of the job are there, on each node."""
    for node in evidence.nodes:
        if not node.missing_data:
            continue
        folder = node.missing_data[0].partition(" = ")[2]
        fix = f"ls -d '{folder}'   # on {node.host}: mount it, or correct the path in {evidence.job}"
        if node.container is not None:
            option = "--bind" if node.container.engine == "Apptainer" else "-v"
            fix = in_container(node.container, f"{_DOCTOR} --job {evidence.job}", options=f"{option} FOLDER:FOLDER")
        yield problem("data", f"not there on {node.host}: {', '.join(node.missing_data)}", fix)
        return
    if evidence.job:
        yield ok("data", f"all that {evidence.job} names is there")
