"""End the whole job at once: from any thread, and before, during and after the use of MPI."""

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
"""Time for the launcher to read the output, which it drops when it is told to end the job."""
_PMI = "PMI_FD"
"""Environment variable of MPICH's mpirun and those like it: the descriptor that takes messages to them."""
_OF_HYDRA = "MPI_LOCALNRANKS"
"""Set by MPICH's mpirun but not by srun, whose PMI_FD takes other messages."""
_exit = os._exit


def abort_job(exit_code: int) -> NoReturn:
    """End all ranks, with `exit_code` if the launcher forwards it. Only the output is flushed.

    Where ranks outlive each other, neither MPI_Abort nor an exit code ends the job. There this rank kills itself, and
    the others notice: they end as well, or continue without it.
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
    """End this rank, when all ranks end with the same `exit_code`, so that the launcher returns that code.

    MPICH's mpirun kills the other ranks as soon as one exits with an error, and counts their deaths in its own exit
    code. There this ends the job at once; elsewhere it returns.
    """
    if not (os.environ.get(_PMI, "").isdigit() and _OF_HYDRA in os.environ):
        return
    output(OUT).flush()
    output(ERROR).flush()
    if detect_launch().rank == 0:
        time.sleep(_READ_S)
        _abort_through_pmi(exit_code)
    time.sleep(_GRACE_S)  # mpirun ends this process meanwhile
    _exit(exit_code)


def _abort_through_pmi(exit_code: int) -> None:
    """Send what MPI_Abort would send: those launchers wait forever for a process that left before MPI_Init."""
    if os.environ.get(_PMI, "").isdigit():
        with suppress(OSError):
            os.write(int(os.environ[_PMI]), f"cmd=abort exitcode={exit_code}\n".encode())
