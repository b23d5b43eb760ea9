"""How the commands of Slurm end, and write: they are plain processes, without MPI and without NumPy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpcnn.errors import EXIT_INTERRUPTED, HpcnnError

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 140
"""Of tables that go to a file or a pipe."""


def run_plain(body: Callable[[], int]) -> int:
    """Run `body` and return the exit code; an error on purpose is one message, and Ctrl-C none."""
    try:
        return body()
    except HpcnnError as error:
        sys.stderr.write(f"hpcnn: error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `hpcnn status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails as it flushes at exit
        return 0


def console() -> Console:
    """Return a console for standard output: as wide as the terminal, or wide enough for a table."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_WIDTH)


def write_line(text: str) -> None:
    """Print one line at once. What no character set holds is shown as escapes."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """Return a text as standard output can take it: a path may have bytes of another character set."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, errors="backslashreplace").decode(encoding)
