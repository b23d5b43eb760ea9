"""Commands that run as one process, without MPI and NumPy: their exit codes, and how they print."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpcnn.errors import EXIT_INTERRUPTED, HpcnnError
from hpcnn.system.output import ERROR, begin_command, end_command, write_line
from hpcnn.system.resource_errors import explain_resource_error

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 140
"""Width of tables in a file or a pipe."""


def run_serial(body: Callable[[], int]) -> int:
    """Run `body` and return the exit code. An expected error prints one message, Ctrl-C none."""
    begin_command()
    try:
        return end_command(body())
    except HpcnnError as error:
        write_line(f"hpcnn: error: {error}", ERROR)
        return error.exit_code
    except (OSError, RuntimeError, ImportError, MemoryError) as error:
        blamed = explain_resource_error(error)
        if blamed is None:
            raise
        write_line(f"hpcnn: error: {blamed[0]}", ERROR)
        return blamed[1]
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def console() -> Console:
    """Return a console for standard output, as wide as the terminal, or wide enough for a table."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_WIDTH)
