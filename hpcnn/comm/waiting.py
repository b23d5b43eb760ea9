"""Lets ranks that wait for messages sleep, where a host has more ranks than cores to run them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hpcnn.comm.launcher import local_size
from hpcnn.system.cores import cpus_of_host

SLEEPS = "MPIR_CVAR_ENABLE_HEAVY_YIELD"
"""Variable that MPICH 4.1 and later read in MPI_Init: a rank that finds no message sleeps for some 50 us before it
looks again. Otherwise it calls sched_yield, after which it mostly goes on at once."""
_TRUE = ("1", "on", "true", "yes")


def sleeps_while_waiting(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> bool:
    """Return whether a rank of MPICH is to sleep while it waits: as the user says, or if this host lacks CPUs for all.

    Before MPI_Init a rank knows nothing of the others but their number. So all CPUs count that could be theirs, and not
    only those that this rank is bound to: ranks with a core each answer faster without sleep.

    Args:
        environ: environment variables; by default those of the process.
        root: where the file system starts.
    """
    environ = os.environ if environ is None else environ
    if SLEEPS in environ:
        return environ[SLEEPS].lower() in _TRUE
    return local_size(environ) > cpus_of_host(root)


def let_ranks_sleep() -> None:
    """Tell MPICH, before MPI_Init, to let this rank sleep while it waits, if it is to."""
    if sleeps_while_waiting():
        os.environ.setdefault(SLEEPS, "1")
