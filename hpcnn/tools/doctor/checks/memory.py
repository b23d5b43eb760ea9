"""Checks of memory: enough of it, and shared by the ranks of a node."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.tools.doctor.checks.cores import by_host
from hpcnn.tools.doctor.evidence import Evidence
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning
from hpcnn.tools.doctor.shared_memory import ENLARGE, SHM, needed

_MB, _GB = 2**20, 2**30
_MEMORY = {"little": _GB, "too little": _GB // 4}
"""Bytes a rank."""
_SHM_COMFORT = 4
"""Other versions may take so many times as much."""
_SHM_SIGNS = (SHM, "Bus error")
"""What is in the last words of ranks that found too little of it."""
_FILES_A_RANK, _FILES = 4, 256


def check_memory(evidence: Evidence) -> Iterator[Finding]:
    """There is memory for each rank."""
    if not evidence.connected:
        return
    shares = {
        host: min(known) / len(ranks)
        for host, ranks in by_host(evidence).items()
        if (known := [rank.free_memory for rank in ranks if rank.free_memory is not None])
    }
    if not shares:
        return
    host = min(shares, key=lambda host: shares[host])
    what = f"{shares[host] / _GB:.2g} GB are free for each rank on {host}"
    fix = "mpirun -n 1 python -m hpcnn.train JOB   # fewer ranks; in Slurm: #SBATCH --mem=0, all of the node's"
    if shares[host] < _MEMORY["too little"]:
        yield problem("memory", what, fix)
    elif shares[host] < _MEMORY["little"]:
        yield warning("memory", what, fix)
    else:
        yield ok("memory", what)


def check_shm(evidence: Evidence) -> Iterator[Finding]:
    """The MPI library finds room in /dev/shm."""
    name, hosts = "/dev/shm", by_host(evidence)
    for node in evidence.nodes:
        if node.shm.trouble:
            yield problem(name, f"on {node.host}, /dev/shm can't be written to: {node.shm.trouble}", ENLARGE)
            return
    if not evidence.connected and not any(sign in evidence.probe.error for sign in _SHM_SIGNS):
        return  # how many ranks a node has is not known, and nothing speaks of too little
    for node in evidence.nodes:
        ranks = max(len(hosts.get(node.host, [])), 2) if evidence.connected else evidence.launch.size
        need, free = needed(evidence.probe.library, ranks), node.shm.free
        library = evidence.probe.library or "the MPI library"
        takes = f"{library} takes about {need / _MB:.2g} for {ranks} ranks"
        what = f"{free / _MB:,.3g} MB are free on {node.host}, and {takes}"
        if free < need:
            yield problem(name, f"{what}: ranks die of a bus error, or as they start", ENLARGE)
        elif free < _SHM_COMFORT * need:
            yield warning(name, what, ENLARGE)
        else:
            continue
        return
    if evidence.nodes:
        free = min(node.shm.free for node in evidence.nodes)
        yield ok(name, f"{free / _GB:.2g} GB are free; the MPI library needs it, hpcnn's own shared memory does not")


def check_sharing(evidence: Evidence) -> Iterator[Finding]:
    """The ranks of a node can share memory."""
    if evidence.probe.no_sharing:
        yield warning(
            "shared memory",
            f"{evidence.probe.no_sharing}: that is slower, with the same result",
            "unset HPCNN_SHARED_MEMORY   # in containers: apptainer exec --sharens, docker run --pid=host --ipc=host",
        )
    elif len(evidence.probe.hosts) > len(set(evidence.probe.hosts)):
        yield ok("shared memory", "tried: the ranks of a node see what their neighbours write")


def check_open_files(evidence: Evidence) -> Iterator[Finding]:
    """A rank may have files open for each neighbour with whom it shares memory."""
    host, ranks = max(by_host(evidence).items(), key=lambda node: len(node[1]))
    need, allowed = _FILES_A_RANK * len(ranks) + _FILES, min(rank.open_files for rank in ranks)
    if allowed < need:
        yield warning(
            "open files",
            f"a rank on {host} may have {allowed} files open; sharing memory, {len(ranks)} ranks need about {need}",
            f"ulimit -Hn {need}   # as root, or in /etc/security/limits.conf",
        )
    else:
        yield ok("open files", f"{allowed:,} allowed")
