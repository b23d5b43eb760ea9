"""Python's module search path without the working folder, whose files may have the name of any module. For commands.

This is imported first, so it imports only what Python itself has imported.
"""

from __future__ import annotations

import os
import sys


def leave_out_working_folder(*, of_module: bool) -> None:
    """Remove the working folder from the path if Python put it there, but not if PYTHONPATH names it.

    ``python -m`` puts it there, and so does an empty entry of PYTHONPATH, as in ``export PYTHONPATH=$PYTHONPATH:/lib``.

    Args:
        of_module: whether this process was started by ``python -m``.
    """
    here = _working_folder()
    if of_module and not sys.flags.safe_path and sys.path[:1] in ([here], [""]):
        del sys.path[0]
    entries = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "")
    named = {os.path.abspath(entry) for entry in entries.split(os.pathsep) if entry}  # noqa: PTH100 - pathlib costs time
    if here in sys.path and entries and "" in entries.split(os.pathsep) and here not in named:
        sys.path.remove(here)


def add_working_folder() -> None:
    """Append the working folder to the path: its modules are found if they are nowhere else."""
    here = _working_folder()
    if here and not {here, ""} & set(sys.path):
        sys.path.append(here)


def started_as_module(package: str) -> bool:
    """Return whether Python is about to run a module of `package`: ``python -m PACKAGE.MODULE ...``.

    While it looks for the module, its own arguments end with the name of the module and what follows it.
    """
    arguments = getattr(sys, "argv", [])
    place = len(sys.orig_argv) - len(arguments)
    if place < 1 or not arguments:
        return False
    before, name = sys.orig_argv[place - 1 : place + 1]
    if name.startswith("-"):  # as in -mhpcnn.train
        name = name.partition("m")[2]
    elif not (before.startswith("-") and before.endswith("m")):
        return False
    return name.partition(".")[0] == package


def _working_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # it was deleted
        return ""
