"""The end of the whole job at once: from any thread, and before, within and after the life of MPI."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

from hpcnn.comm.launcher import outlive_each_other
from hpcnn.output import ERROR, OUT, output

_GRACE_S = 3
_READ_S = 0.2
"""A launcher that is told to end a job drops what it has not read of its output yet."""
_PMI = "PMI_FD"
"""Environment variable by which mpirun of MPICH, and those like it, say where to send them messages."""
_exit = os._exit


def end_job(exit_code: int) -> NoReturn:
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


def _abort_through_pmi(exit_code: int) -> None:
    """Send what MPI_Abort would: those launchers wait for ever for a process that left before MPI_Init."""
    if os.environ.get(_PMI, "").isdigit():
        with suppress(OSError):
            os.write(int(os.environ[_PMI]), f"cmd=abort exitcode={exit_code}\n".encode())
