"""The launcher of this process, from environment variables: read before any MPI call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

CHOICE = "HPCNN_COMM"
"""Environment variable that overrules detection: ``mpi`` for a launcher that hpcnn does not know, or ``serial``."""

# Most specific first: mpiexec inside a Slurm allocation starts its daemons with srun, whose variables ranks inherit.
_OPEN_MPI = "mpirun of Open MPI"
_OPEN_MPI_ULFM = "OMPI_MCA_mpi_ft_enable"
_PMI = "mpirun or srun through PMI (MPICH, Intel MPI)"
_VARIABLES = (
    (_OPEN_MPI, "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun of MVAPICH", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    (_PMI, "PMI_SIZE", "PMI_RANK"),
    ("jsrun", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_RANK"),
    ("aprun or PALS", "PALS_SIZE", "PALS_RANKID"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
_WITHOUT_MPI = (
    ("torchrun", "WORLD_SIZE", "RANK", ("TORCHELASTIC_RUN_ID",)),
    ("horovodrun with Gloo", "HOROVOD_SIZE", "HOROVOD_RANK", ("HOROVOD_SIZE",)),
    ("a launcher of PyTorch's kind (deepspeed, accelerate, Ray)", "WORLD_SIZE", "RANK", ("LOCAL_RANK", "MASTER_ADDR")),
)
"""Launchers that do not use MPI, with variables of which one identifies them."""
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE")


@dataclass(frozen=True)
class Launch:
    """The number of processes that a launcher started, and which of them this is."""

    launcher: str
    size: int
    rank: int

    @property
    def of_open_mpi(self) -> bool | None:
        """Whether the launcher is Open MPI's; None if it may start any MPI."""
        return {_OPEN_MPI: True, _PMI: False}.get(self.launcher)


_NONE = Launch("no launcher", 1, 0)


def detect_launch(environ: Mapping[str, str] | None = None) -> Launch:
    """Return what the launcher's environment variables say; a plain process is rank 0 of 1.

    >>> detect_launch({"PMI_SIZE": "4", "PMI_RANK": "2"})
    Launch(launcher='mpirun or srun through PMI (MPICH, Intel MPI)', size=4, rank=2)
    >>> detect_launch({}).size
    1
    """
    environ = os.environ if environ is None else environ
    for launcher, size, rank in _VARIABLES:
        if environ.get(size, "").isdigit() and environ.get(rank, "").isdigit():
            return Launch(launcher, int(environ[size]), int(environ[rank]))
    return _NONE


def detect_foreign(environ: Mapping[str, str] | None = None) -> Launch | None:
    """Return the launch by a launcher that started several processes without MPI; None under one of MPI, or none.

    Some MPI jobs set the same variables for other programs, so MPI's launchers take precedence.

    >>> detect_foreign({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "TORCHELASTIC_RUN_ID": "none"})
    Launch(launcher='torchrun', size=2, rank=1)
    >>> detect_foreign({"WORLD_SIZE": "2", "RANK": "1"})
    """
    environ = os.environ if environ is None else environ
    if detect_launch(environ) != _NONE:
        return None
    for launcher, size, rank, signs in _WITHOUT_MPI:
        known = environ.get(size, "").isdigit() and environ.get(rank, "").isdigit()
        if known and int(environ[size]) > 1 and any(sign in environ for sign in signs):
            return Launch(launcher, int(environ[size]), int(environ[rank]))
    return None


def outlive_each_other() -> bool:
    """Return whether ranks outlive each other's death: ``mpirun --with-ft ulfm``."""
    return os.environ.get(_OPEN_MPI_ULFM, "0").lower() in ("1", "true")


def rank_variable(environ: Mapping[str, str] | None = None) -> str:
    """Return the environment variable that holds this rank's number; empty without a launcher."""
    environ = os.environ if environ is None else environ
    for _, size, rank in _VARIABLES:
        if environ.get(size, "").isdigit() and environ.get(rank, "").isdigit():
            return rank
    return ""


def local_size(environ: Mapping[str, str] | None = None) -> int:
    """Return how many ranks the launcher starts on this host; 0 if unknown.

    >>> local_size({"MPI_LOCALNRANKS": "2"})
    2
    """
    environ = os.environ if environ is None else environ
    return next((int(environ[name]) for name in _LOCAL_SIZES if environ.get(name, "").isdigit()), 0)
