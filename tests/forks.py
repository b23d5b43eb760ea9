"""Child processes by `fork`, as servers and `multiprocessing` make them: with all objects, and one thread."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable

_PATIENCE_S = 60


def ends_in_a_child(function: Callable[[], object]) -> bool:
    """Return whether a function returns in a child process, and not by an exception or never."""
    return exit_code_of(function) == 0


def exit_code_of(function: Callable[[], object]) -> int:
    """Return the exit code of a child process that calls a function: 1 after an exception, -N if signal N ends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python's, where there are threads
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_PATIENCE_S)
    try:
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
