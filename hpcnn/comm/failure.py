"""The failure of one rank: one report, and the end of the whole job, wherever in the process it happens."""

from __future__ import annotations

import atexit
import faulthandler
import io
import os
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from hpcnn.comm.abort import abort_job, exit_alike
from hpcnn.comm.launcher import detect_launch
from hpcnn.errors import EXIT_FAILURE, EXIT_INTERRUPTED, HpcnnError
from hpcnn.system.output import ERROR, output, write_line
from hpcnn.system.resource_errors import explain_resource_error
from hpcnn.system.terminal import terminal_path

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before

_HEAD_START_S = 2.0
_KILL_S = 0.6
"""Longer than the time between SIGTERM and SIGKILL when Open MPI's mpirun ends a job after another rank died."""
_OTHERS_S = {True: 3.0, False: 1.0}
"""How long a failing rank waits for the others to fail as well, so that one message is enough: after an error that
hpcnn raises on purpose, which mostly happens on all ranks, and after any other."""
LEAVING_S = 10.0
"""How long a rank that calls `sys.exit` in a user's program waits for the others to do so."""
_EXIT_S = 30.0
"""How long a process may take to exit once all is done."""


class FailureGuard:
    """Ends the job when this process fails in any way that Python can detect.

    That is an error in the command, in a thread or in an exit handler, or a call of ``sys.exit`` or ``os._exit``. For a
    segmentation fault Python writes the stack, and the launcher ends the job.

    Args:
        in_words: report errors such as too little memory without a stack, since no user code runs.
    """

    def __init__(self, *, in_words: bool = False) -> None:
        self._in_words = in_words
        self.comm: Communicator | None = None
        """The ranks, once they are connected."""
        self._ending = threading.RLock()
        """Acquired and never released by the thread that ends the process: other threads that fail wait for the end."""
        self._os_exit = os._exit

    def install(self) -> None:
        """Install the hooks."""
        faulthandler.enable()
        threading.excepthook, sys.unraisablehook, os._exit = self._thread_failed, self._unraisable, self._exit_called
        os.register_at_fork(after_in_child=self.uninstall)  # a child is no rank
        atexit.register(self.uninstall)  # runs after MPI_Finalize, which is registered later

    def uninstall(self) -> None:
        """Remove the hooks: errors while Python shuts down are ignored."""
        threading.excepthook, sys.unraisablehook = threading.__excepthook__, sys.__unraisablehook__
        os._exit = self._os_exit

    # --------------------------------------------------------------------------------------------- the main thread

    def fail(self, error: BaseException) -> int:
        """Report what the command raised and end the job; return the exit code if all ranks have failed alike."""
        message, exit_code = self._describe(error)
        on_purpose = isinstance(error, HpcnnError)
        self._ending.acquire()
        self.uninstall()
        if self.comm is None:
            report_unconnected("hpcnn", message, exit_code, named=not on_purpose)
            limit_exit()
            return exit_code
        if _is_of_mpi(error):
            from hpcnn.comm.supervision.watched_rank import watched_rank

            watched_rank.report_loss()  # else each remaining rank would report it, and mpirun would return 0
        if not self._all_failing(_OTHERS_S[on_purpose]):
            if self.comm.rank and _is_of_mpi(error):
                time.sleep(_HEAD_START_S)  # if rank 0 sees it too, it ends the job first
            self._report(f"{self._place()}: {message}")
            abort_job(exit_code)
        if self.comm.rank == 0:
            self._report(message if on_purpose else f"{self._place()}: {message}")
        self._all_failing(_OTHERS_S[on_purpose])  # rank 0 has reported: the first to leave may end the others
        exit_alike(exit_code)
        limit_exit()
        return exit_code

    def exit(self, error: SystemExit) -> None:
        """End the job when a user's program exits on some ranks; return if it exits on all."""
        self._ending.acquire()
        self.uninstall()
        if self.comm is None:
            return
        if not self._all_failing(LEAVING_S):
            self._report(f"{self._place()}: exit({error.args[0]!r}) was called, but not on all ranks")
            abort_job(_describe(error)[1])
        self._all_failing(_OTHERS_S[True])  # one that failed otherwise may have to report first
        limit_exit()

    def _all_failing(self, timeout_s: float) -> bool:
        assert self.comm is not None
        try:
            return self.comm.fault_tolerance.all_failing(timeout_s)
        except Exception:  # of MPI: some are dead
            return False

    # ------------------------------------------------------------------------------- threads, exit handlers, signals

    def leave(self, message: str, exit_code: int) -> NoReturn:
        """End the job on a signal to this rank, with one message if others got it too. For any thread."""
        self._ending.acquire()
        launch = detect_launch()
        if launch.size > 1:
            time.sleep(_HEAD_START_S if launch.rank else _KILL_S)
        write_line(f"hpcnn: {message}", ERROR)
        _show_cursor()
        abort_job(exit_code)

    def end_alone(self, message: str, exit_code: int) -> NoReturn:
        """Report a failure and end the job. For any thread."""
        self._ending.acquire()
        if detect_launch().rank:
            time.sleep(_HEAD_START_S)  # if all ranks fail so, rank 0 ends the job first
        self._report(f"{self._place()}: {message}")
        abort_job(exit_code)

    def _thread_failed(self, failed: threading.ExceptHookArgs) -> None:
        if failed.exc_type is SystemExit:  # this ends only the thread
            return
        message, exit_code = self._describe(failed.exc_value or failed.exc_type())
        self.end_alone(f"in thread {failed.thread.name if failed.thread else ''!r}: {message}", exit_code)

    def _unraisable(self, failed: sys.UnraisableHookArgs) -> None:
        """Handle an exception that Python would only print: one in an exit handler ends the job."""
        if "atexit" not in (failed.err_msg or ""):
            sys.__unraisablehook__(failed)
            return
        error = failed.exc_value or failed.exc_type()
        message, exit_code = _describe(error)
        where = "" if isinstance(error, HpcnnError) else f"in {failed.object!r}: "
        self.end_alone(f"{where}{message}", exit_code)

    def _exit_called(self, status: int) -> NoReturn:
        """Replace os._exit: some launchers count a rank that leaves so as a success of the job."""
        stack = "".join(traceback.format_stack()[:-1])
        self.end_alone(f"os._exit({status}) was called\n{stack}", status or EXIT_FAILURE)

    def _describe(self, error: BaseException) -> tuple[str, int]:
        return (self._in_words and explain_resource_error(error)) or _describe(error)

    def _place(self) -> str:
        if self.comm is None:
            return f"rank {detect_launch().rank} on {socket.gethostname()}, connecting"
        return f"rank {self.comm.rank} on {self.comm.host}, {self.comm.activity}"

    def _report(self, message: str) -> None:
        if isinstance(sys.stderr, io.StringIO):  # of the hook of torch.distributed, which prints it too late
            sys.stderr = sys.__stderr__
        write_line(f"hpcnn: error: {message.rstrip()}", ERROR)
        _show_cursor()


def report_unconnected(program: str, message: str, exit_code: int, *, named: bool = False) -> None:
    """Report a failure before the ranks are connected, and end the job; without a launcher, return.

    Mostly all ranks fail alike: rank 0 reports first, and ends the others. `named`: the report names the rank.
    """
    launch = detect_launch()
    if launch.rank:
        time.sleep(_HEAD_START_S)
    place = f"rank {launch.rank} on {socket.gethostname()}, connecting: " if launch.rank or named else ""
    write_line(f"{program}: error: {place}{message.rstrip()}", ERROR)
    if launch.size > 1:
        abort_job(exit_code)


def limit_exit() -> None:
    """Kill this process, with all stacks, if it does not exit by itself in time.

    It may wait for a thread that never ends, for an exit handler, or within MPI for a dead rank.
    """
    with suppress(RuntimeError):  # no thread can be started
        faulthandler.dump_traceback_later(_EXIT_S, exit=True)


def _describe(error: BaseException) -> tuple[str, int]:
    """Return a message and an exit code."""
    if isinstance(error, HpcnnError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", EXIT_INTERRUPTED
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) and error.code else EXIT_FAILURE
        return f"sys.exit({error.code!r}) was called\n{trace}", code
    if _is_of_mpi(error):
        return f"MPI failed: maybe another rank or its node is gone\n{trace}", EXIT_FAILURE
    return f"unexpected failure\n{trace}", EXIT_FAILURE


def _is_of_mpi(error: BaseException) -> bool:
    return type(error).__module__.startswith("mpi4py")


def _show_cursor() -> None:
    """Show the cursor, which a live display that had no time to close has hidden."""
    if detect_launch().rank == 0 and terminal_path() is not None:
        output().write("\x1b[?25h")
