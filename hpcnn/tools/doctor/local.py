"""What one rank finds out without MPI: about itself, and the first of a node about its node."""

from __future__ import annotations

import os
import platform
import re
import resource
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from hpcnn import __version__
from hpcnn.comm.waiting import sleeps_while_waiting
from hpcnn.system.blas import THREAD_VARIABLES, THREADS, fingerprint, use_one_thread
from hpcnn.system.control_groups import read_text
from hpcnn.system.cores import read_cores
from hpcnn.system.free_memory import free_memory
from hpcnn.tools.doctor.container import find_container, user_namespace
from hpcnn.tools.doctor.evidence import Gpus, Interface, Local, Node, Rank
from hpcnn.tools.doctor.file_systems import probe_file_system
from hpcnn.tools.doctor.job_data import data_paths, missing_data
from hpcnn.tools.doctor.shared_memory import SHM
from hpcnn.tools.doctor.timed_command import run_timed

_LOCAL_RANKS = (
    *("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK"),
    *("PALS_LOCAL_RANKID", "JSM_NAMESPACE_LOCAL_RANK", "SLURM_LOCALID"),
)
_FLAGS = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16"})
_INNER = ("docker", "virbr", "br-", "veth", "cni", "cali", "flannel", "ifb", "dummy")
"""How the names of interfaces begin that lead nowhere but into containers and the like."""


def local_rank(environ: Mapping[str, str] | None = None) -> int | None:
    """Return the number of this rank among those of its node; None if the launcher does not say.

    >>> local_rank({"MPI_LOCALRANKID": "3"})
    3
    """
    environ = os.environ if environ is None else environ
    said = (environ.get(name, "") for name in _LOCAL_RANKS)
    return next((int(number) for number in said if number.isdigit()), None)


def gather_local(rank: int, run_folder: Path, marker: str, limit_s: float, job: Path | None = None) -> Local:
    """Return what this process can find out; to be called before NumPy is imported.

    `rank` is its own, as the launcher says; a file named `marker` is left in `run_folder`, unless the name is empty;
    the data of `job` are looked for.

    Raises:
        JobError: there is no such job, or it is invalid.
    """
    environ = dict(os.environ)
    own = gather_rank(rank)
    if local_rank():
        return Local(own)
    from hpcnn.job.load import load_job

    paths = data_paths(load_job(job)) if job else {}
    return Local(own, gather_node(run_folder, marker, limit_s, environ, paths))


def gather_rank(rank: int) -> Rank:
    """Return what this rank knows of itself, and let BLAS run on one thread, as hpcnn's commands do."""
    threads = {name: os.environ[name] for name in (*THREAD_VARIABLES, THREADS) if os.environ.get(name)}
    use_one_thread()
    begin = time.perf_counter()
    import numpy as np

    import hpcnn.runs.run  # noqa: F401 - all that a training needs

    import_s = time.perf_counter() - begin
    blas = fingerprint()
    return Rank(
        rank,
        socket.gethostname(),
        platform.python_version(),
        sys.executable,
        np.__version__,
        __version__,
        read_cores(),
        threads,
        blas["blas"],
        blas.get("kernel", ""),
        blas["processor"],
        free_memory(),
        resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        os.environ.get("CUDA_VISIBLE_DEVICES"),
        import_s,
        _recompiled(),
        not sys.dont_write_bytecode,
        user_namespace(),
        sleeps_while_waiting(),
    )


def _recompiled() -> int:
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return sum(bool(spec and spec.has_location and spec.cached and not Path(spec.cached).exists()) for spec in specs)


def gather_node(
    run_folder: Path,
    marker: str,
    limit_s: float,
    environ: Mapping[str, str],
    paths: Mapping[str, tuple[Path, ...]],
) -> Node:
    """Return what is the same for all ranks of a node; `paths` are those of a job's data."""
    return Node(
        socket.gethostname(),
        probe_file_system(Path(SHM), limit_s),
        probe_file_system(run_folder, limit_s, marker),
        probe_file_system(Path(__file__).parent, limit_s, writes=False),
        interfaces(),
        find_gpus(limit_s),
        processor_flags(read_text(Path("/proc/cpuinfo"))),
        find_container(environ),
        missing_data(paths, limit_s),
    )


def interfaces(folder: Path = Path("/sys/class/net")) -> tuple[Interface, ...]:
    """Return the network interfaces that lead to other machines, and InfiniBand's ports."""
    found = []
    for path in sorted(folder.glob("*")):
        kind = {"1": "ethernet", "32": "InfiniBand"}.get(read_text(path / "type"))
        if kind is None or path.name.startswith(_INNER):
            continue
        speed = read_text(path / "speed")
        up = read_text(path / "operstate") in ("up", "unknown")  # some drivers never say
        found.append(Interface(path.name, up, int(speed) if speed.isdecimal() else 0, kind))
    for port in sorted(folder.parent.glob("infiniband/*/ports/*")):
        rate = re.match(r"(\d+)", read_text(port / "rate"))
        up = read_text(port / "state").endswith("ACTIVE")
        found.append(Interface(port.parts[-3], up, int(rate[1]) * 1000 if rate else 0, "InfiniBand"))
    return tuple(found)


def find_gpus(limit_s: float) -> Gpus:
    """Return the graphics processors that NVIDIA's driver knows."""
    answer = run_timed(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], limit_s)
    if answer.code == 127:
        return Gpus()
    if answer.trouble:
        return Gpus(trouble=answer.trouble)
    return Gpus(tuple(line.strip() for line in answer.out.splitlines() if line.strip()))


def processor_flags(cpuinfo: str) -> frozenset[str]:
    """Return the abilities that matter, from the text of /proc/cpuinfo.

    >>> sorted(processor_flags("flags : fpu avx2 amx_bf16"))
    ['amx_bf16', 'avx2']
    """
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    return _FLAGS & set(found[1].split()) if found else frozenset()
