"""Errors caused by the resources of a process, not by hpcnn: too little memory, too few threads, no folder."""

from __future__ import annotations

import errno
import os

from hpcnn.errors import EXIT_BAD_INPUT, EXIT_FAILURE, shortened

_NO_MEMORY = ("failed to map segment from shared object", "cannot allocate memory", "unable to allocate")
_NO_THREAD = ("can't start new thread", "unable to start watchdog thread")


def explain_resource_error(error: BaseException) -> tuple[str, int] | None:
    """Return a message and an exit code for an error with such a cause; None for any other.

    >>> explain_resource_error(MemoryError("Unable to allocate 4 GiB"))[0]  # doctest: +ELLIPSIS
    'there is too little memory (Unable to allocate 4 GiB). Give more (ulimit...
    >>> explain_resource_error(ZeroDivisionError())
    """
    lines = [line.strip() for line in str(error).splitlines()]
    no_memory = [line for line in lines if any(sign in line.lower() for sign in _NO_MEMORY)]
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM or no_memory:
        words = shortened((no_memory or lines or [""])[0])
        return (
            f"there is too little memory{words and f' ({words})'}. Give more (ulimit -v, --mem of Slurm), or "
            "use less: smaller batches, fewer ranks per node, data as .npy, which is mapped."
        ), EXIT_BAD_INPUT  # what a job needs and what it may take: another try would end alike
    if isinstance(error, RuntimeError) and any(sign in line for sign in _NO_THREAD for line in lines):
        return (
            f"the system lets this process start no more threads ({error}): too little memory (ulimit -v), or too many "
            "processes and threads (ulimit -u, or the limit of the container)."
        ), EXIT_FAILURE
    if isinstance(error, FileNotFoundError) and not _has_working_folder():
        return "the working folder was deleted: change to another one with cd, and start again.", EXIT_BAD_INPUT
    return None


def _has_working_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return False
    return True
