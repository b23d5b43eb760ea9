"""The terminal that shows the output of a rank. Under mpirun that output is a pipe, so the launcher's output counts."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hpcnn.system.output import output
from hpcnn.system.proc_files import name_of, parent_of

_TERMINAL = re.compile(r"/dev/(pts/\d+|tty\w*|console)")
_LAUNCHERS = ("mpirun", "mpiexec", "prterun", "prted", "prun", "srun", "orterun", "orted")
_MAX_ANCESTORS = 8


def terminal_path() -> str | None:
    """Return the terminal device that standard output ends up at, or None.

    mpirun forwards the output of ranks, so its own standard output decides, whether a rank writes to a pipe or, under
    Open MPI, to a terminal that mpirun made for it. A rank that a daemon on another host started has no terminal.
    """
    own = None
    try:
        own = os.ttyname(output().fileno()) if output().isatty() else None
        if not own and not str(Path("/proc/self/fd/1").readlink()).startswith("pipe:"):
            return None
        process = os.getpid()
        for _ in range(_MAX_ANCESTORS):
            if name_of(process).startswith(_LAUNCHERS):
                target = str(Path(f"/proc/{process}/fd/1").readlink())
                return target if _TERMINAL.fullmatch(target) else None
            process = parent_of(process)
            if process <= 1:
                break
    except OSError:  # no /proc, a process of another user, or a terminal that was closed
        pass
    return own


def terminal_size(path: str) -> tuple[int, int]:
    """Return columns and lines of the terminal at `path`; 80 x 24 if it does not say."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return 80, 24
    try:
        columns, lines = os.get_terminal_size(descriptor)
    except OSError:
        return 80, 24
    finally:
        os.close(descriptor)
    return columns or 80, lines or 24
