"""How much of /dev/shm an MPI library takes as it starts: with less, its ranks die."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hpcnn.tools.doctor.evidence import family

SHM = "/dev/shm"
ENLARGE = (
    f"mount -o remount,size=1G {SHM}   # as root; in a container: docker run --shm-size=1g, or apptainer exec "
    f"--bind {SHM}"
)
MB = 2**20
_A_RANK = {"MPICH": 5.2 * MB, "Open MPI": 0.1 * MB, "": 0.1 * MB}
"""As measured for 2 to 8 ranks of a node: MPICH 5.0.2, Open MPI 5.0.11."""
_LOCAL_SIZES = (
    *("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE", "PALS_LOCAL_SIZE"),
    *("JSM_NAMESPACE_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"),
)


def needed(library: str, ranks: int) -> float:
    """Return about how many bytes of it so many ranks of a node need; one alone needs none.

    >>> round(needed("MPICH 5.0.2", 4) / MB), needed("MPICH 5.0.2", 1)
    (21, 0.0)
    """
    return _A_RANK[family(library)] * ranks if ranks > 1 else 0.0


def shortage(library: str, environ: Mapping[str, str]) -> str:
    """Return why ranks of `library` had better not start here; empty if they may."""
    said = (environ.get(name, "") for name in _LOCAL_SIZES)
    ranks = next((int(number) for number in said if number.isdecimal()), 1)
    try:
        space = os.statvfs(SHM)
    except OSError as error:
        return f"there is no {SHM} ({error.strerror})"
    free, need = space.f_bavail * space.f_frsize, needed(library, ranks)
    if free >= need:
        return ""
    return f"{SHM} has {free / MB:.3g} MB free, and {ranks} ranks of {library} take about {need / MB:.2g}: not started"
