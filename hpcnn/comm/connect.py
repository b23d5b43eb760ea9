"""Connect to the job that the launcher started, or raise an error that says why not."""

from __future__ import annotations

import atexit
import faulthandler
import os
import shutil
import sys
import time

from hpcnn.comm.launcher import CHOICE, Launch, detect_foreign, detect_launch, outlive_each_other
from hpcnn.comm.mpi_info import library_line
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.waiting import let_ranks_sleep
from hpcnn.errors import CommunicatorError, MissingExtraError
from hpcnn.kernels.loading import bring_up_to_date

_INIT_S = 600.0
"""How long MPI_Init may take: the launcher may not notice that a rank died before it."""

_FIRST_SPEAKS_S = 2.0
"""How long the others wait for rank 0 to report what is wrong on all: as it ends, the launcher ends them."""
_TOLD_S = 8.0
"""Time for the watcher to report which rank has died, if this one can't connect because of that."""


def connect() -> Communicator:
    """Return a communicator of this process: MPI under a launcher, otherwise a single rank.

    In a checkout whose compiled core is older than its sources, it is compiled first.

    A watcher beside this process ends the job if ranks die or do not connect.

    The program may use mpi4py itself: if it has initialized MPI, it also finalizes it.
    There is no silent fallback: a launcher that started n processes must give a world of n ranks.

    Raises:
        CommunicatorError: the MPI library does not work, or is not the launcher's.
        MissingExtraError: a launcher started several processes, but mpi4py is not installed.
    """
    check_caller()
    bring_up_to_date()
    launch = detect_launch()
    choice = os.environ.get(CHOICE, "")
    if choice not in ("", "mpi", "serial"):
        raise CommunicatorError(f"{CHOICE}={choice!r} is neither 'mpi' nor 'serial'")
    if choice == "serial" or (choice == "" and launch.size == 1):
        if launch.size > 1:
            raise CommunicatorError(
                f"{CHOICE}=serial, but {launch.launcher} started {launch.size} processes. "
                f"Unset {CHOICE}, or start one process."
            )
        if choice == "":
            _refuse_foreign()
        from hpcnn.comm.serial import SerialCommunicator

        return SerialCommunicator()
    return _connect_mpi(launch, known=choice == "")


def _refuse_foreign() -> None:
    launch = detect_foreign()
    if launch is None:
        return
    if launch.rank:
        time.sleep(_FIRST_SPEAKS_S)
    raise CommunicatorError(
        f"{launch.launcher} started {launch.size} processes, of which MPI knows nothing: each would be alone, and "
        f"train everything. Start them with mpirun -n {launch.size}. If this one is to be alone, set {CHOICE}=serial."
    )


def _connect_mpi(launch: Launch, *, known: bool) -> Communicator:
    try:
        import mpi4py

        if "mpi4py.MPI" not in sys.modules:
            mpi4py.rc.initialize = False  # some libraries abort within MPI_Init under a foreign launcher: look first
            mpi4py.rc.finalize = False  # as long as nothing is initialized
        from mpi4py import MPI
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            raise
        purpose = f"{launch.launcher} started {launch.size} processes, and MPI"
        raise MissingExtraError("mpi4py", "mpi", purpose) from None
    except (ImportError, RuntimeError) as error:
        raise CommunicatorError(
            f"mpi4py can't load an MPI library ({error}). Install one beside it: pip install 'hpcnn[mpi]' (MPICH), "
            "or load your cluster's MPI module."
        ) from None
    library = library_line()
    open_mpi = library.startswith("Open MPI")
    if known and open_mpi != launch.of_open_mpi and launch.of_open_mpi is not None:
        raise _mismatch(launch, library, "which are of different MPIs")
    if MPI.Is_finalized():
        raise CommunicatorError("this program has finalized MPI already, which can't be undone. Do so at its end.")
    from hpcnn.comm.supervision.watched_rank import watched_rank

    watched_rank.start(launch)
    watched_rank.finalizes = not MPI.Is_initialized()  # else the program does, after all that runs in Python
    if not MPI.Is_initialized():
        if not open_mpi:  # which does as much by itself
            let_ranks_sleep()
        faulthandler.dump_traceback_later(_INIT_S, exit=True)  # no thread could end it, since MPI_Init keeps the GIL
        MPI.Init_thread()
        faulthandler.cancel_dump_traceback_later()
        atexit.register(watched_rank.end)
        atexit.register(MPI.Finalize)
    world = MPI.COMM_WORLD.Get_size()
    if known and world != launch.size:
        raise _mismatch(launch, library, f"which sees a world of {world}")
    from hpcnn.comm.mpi import MpiCommunicator

    try:
        return MpiCommunicator()
    except MPI.Exception:
        if outlive_each_other():
            time.sleep(_TOLD_S)  # the watcher says which rank has died, and ends the job
        raise


def check_caller() -> None:
    """Raise an error if the other ranks will not make this call.

    Raises:
        CommunicatorError: it is made within a task of mpi4py.futures.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if str(frame.f_globals.get("__name__", "")).startswith("mpi4py.futures."):
            raise CommunicatorError(
                "hpcnn was called in a task of mpi4py.futures, which runs on one of its workers alone: the others "
                "would never come to the calls that all ranks make together. Call it on all ranks, outside the pool."
            )


def _mismatch(launch: Launch, library: str, why: str) -> CommunicatorError:
    mpirun = shutil.which("mpirun") or "none"
    return CommunicatorError(
        f"{launch.launcher} started {launch.size} processes, but mpi4py uses {library}, {why}: "
        f"every rank would be alone. Start with the mpirun of that library (the first on the path is {mpirun}); "
        "under Slurm, srun --mpi=pmi2 fits MPICH and srun --mpi=pmix fits Open MPI."
    )
