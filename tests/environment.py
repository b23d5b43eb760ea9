"""The environment in which tests run: without what the caller's launcher, scheduler, terminal or services put there.

What BLAS is told of the processor stays, as that may be what makes it work on this machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from hpcnn.system.blas import THREAD_VARIABLES

LAUNCHERS = ("PMI_", "PMIX_", "OMPI_", "PRTE_", "HYD", "MPI_LOCAL", "HPCNN_", "HOROVOD_")
WITHOUT_MPI = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "TORCHELASTIC_")
SCHEDULERS = ("SLURM_", "SBATCH_", "SALLOC_", "SQUEUE_", "SINFO_", "SCANCEL_", "SACCT_", "PBS_")
TERMINALS = ("TERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "TTY_", "JUPYTER_")
SERVICES = ("KERAS_", "MLFLOW_", "WANDB_")
FOR_TESTS = (
    "HPCNN_AARCH64_PREFIX",
    "HPCNN_NUMPY20_FOLDER",
    "HPCNN_OPENMPI_PREFIX",
    "HPCNN_TF218_PREFIX",
    "HPCNN_REQUIRE_ALL",
    "HPCNN_CACHE",
    "HPCNN_TEST_CFLAGS",
)


def without_the_callers(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would steer hpcnn or the programs that it starts; one thread for BLAS."""
    steering = (*LAUNCHERS, *WITHOUT_MPI, *SCHEDULERS, *TERMINALS, *SERVICES)
    kept = {name: value for name, value in environment.items() if not name.startswith(steering)}
    return kept | dict.fromkeys(THREAD_VARIABLES, "1")


def begin() -> None:
    """Leave in this process's own environment nothing of the caller's but what is meant for the tests."""
    told = {name: os.environ[name] for name in FOR_TESTS if name in os.environ}
    clean = without_the_callers(os.environ) | told
    for name in os.environ.keys() - clean.keys():
        del os.environ[name]
    os.environ |= clean
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup: what tests start is not to inherit that
        signal.signal(signal.SIGHUP, lambda number, frame: None)
