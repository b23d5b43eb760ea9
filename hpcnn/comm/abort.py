"""The end of the whole job at once: from any thread, and before, within and after the life of MPI."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

from hpcnn.comm.launcher import detect_launch, outlive_each_other
from hpcnn.system.output import ERROR, OUT, output

_GRACE_S = 3
_READ_S = 0.2
"""A launcher that is told to end a job drops what it has not read of its output yet."""
_PMI = "PMI_FD"
"""Environment variable by which mpirun of MPICH, and those like it, say where to send them messages."""
_OF_HYDRA = "MPI_LOCALNRANKS"
"""One that mpirun of MPICH sets, and srun, which has messages of its own behind PMI_FD, does not."""
_exit = os._exit


def abort_job(exit_code: int) -> NoReturn:
    """End all ranks, with `exit_code` wherever the launcher passes it on. Nothing but the output is cleaned up.

    Where ranks outlive each other, neither MPI_Abort nor an exit code does that. There a rank that fails dies, which
    the others notice: they end as well, or go on without it if they are to.
    """
    signal.alarm(_GRACE_S)  # kills this process if the rest hangs; no thread could, since MPI_Abort keeps the GIL
    output(OUT).flush()
    output(ERROR).flush()
    time.sleep(_READ_S)
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized():
        _abort_through_pmi(exit_code)
    elif outlive_each_other():
        os.kill(os.getpid(), signal.SIGKILL)
    elif not mpi.Is_finalized():
        mpi.COMM_WORLD.Abort(exit_code)
    _exit(exit_code)


def exit_alike(exit_code: int) -> None:
    """End this rank, where all end with the same `exit_code`, in such a way that the launcher has that code.

    mpirun of MPICH kills what is left of the job as soon as one rank has left with an error, and takes the death of
    those that were about to leave into its own exit code. There the job ends at once; elsewhere this returns.
    """
    if not (os.environ.get(_PMI, "").isdigit() and _OF_HYDRA in os.environ):
        return
    output(OUT).flush()
    output(ERROR).flush()
    if detect_launch().rank == 0:
        time.sleep(_READ_S)
        _abort_through_pmi(exit_code)
    time.sleep(_GRACE_S)  # in vain, if all is well
    _exit(exit_code)


def _abort_through_pmi(exit_code: int) -> None:
    """Send what MPI_Abort would: those launchers wait for ever for a process that left before MPI_Init."""
    if os.environ.get(_PMI, "").isdigit():
        with suppress(OSError):
            os.write(int(os.environ[_PMI]), f"cmd=abort exitcode={exit_code}\n".encode())
