"""What hpcnn prints: a stream that can't be written ends no work. Its text is lost, and that is said once elsewhere.

Disks fill up, readers of pipes end, terminals are closed, and some programs are started with no output at all.
"""

from __future__ import annotations

import atexit
import errno
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Self, TextIO

from hpcnn.errors import EXIT_FAILURE

OUT, ERROR = "stdout", "stderr"
_NAMES = {OUT: "standard output", ERROR: "standard error"}
_DESCRIPTORS = 3
"""Those of standard input, standard output and standard error come first."""

_lost: dict[str, OSError | ValueError] = {}
"""Why each stream lost something first."""


class _Policy:
    """Whether a loss is said at once, because the work goes on; else the command says it at its end."""

    at_once = True


class Output:
    """A text stream that takes everything, and drops what can't be written.

    Args:
        name: `OUT` or `ERROR`.
        stream: where to write; None if the process was started without it.
    """

    def __init__(self, name: str, stream: TextIO | None) -> None:
        self._name, self._stream = name, stream

    def write(self, text: str) -> int:
        """Write a text. What its character set does not hold is written as escapes: a path may have any bytes."""
        try:
            stream = self._opened()
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, errors="backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # ValueError: somebody has closed it
            self._lose(error, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand on what was written."""
        try:
            self._opened().flush()
        except (OSError, ValueError) as error:
            self._lose(error, "")

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        try:
            return self._opened().isatty()
        except (OSError, ValueError):
            return False

    def _opened(self) -> TextIO:
        if self._stream is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._stream

    def _lose(self, error: OSError | ValueError, text: str) -> None:
        if isinstance(error, BlockingIOError):  # another program has set a terminal so; the buffer keeps the text
            return
        first = _lost.setdefault(self._name, error) is error
        other = ERROR if self._name == OUT else OUT
        if not _Policy.at_once or other in _lost:
            return
        said = f"hpcnn: warning: {_words(self._name)}; the work goes on without it\n" if first else ""
        if self._name == ERROR:
            said += text  # warnings and errors must be seen somewhere
        if said:
            output(other).write(said)
            output(other).flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Flush. The stream stays open: others print to it, too."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_stream":  # `copy` asks for them before there is a stream
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._stream, name)


def output(name: str = OUT) -> Output:
    """Return what writes to standard output or standard error, whatever they are now."""
    stream = getattr(sys, name)
    return stream if isinstance(stream, Output) else Output(name, stream)


def beneath_display() -> Output:
    """Return what writes to standard output itself, also while a live display of rich stands in front of it."""
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    return stream if isinstance(stream, Output) else Output(OUT, stream)


def write_line(text: str, name: str = OUT) -> None:
    """Print one line in one piece, at once: launchers mix what ranks write."""
    stream = output(name)
    stream.write(text + "\n")
    stream.flush()


def losses() -> list[str]:
    """Return in words which streams have lost something, and why."""
    return [_words(name) for name in _lost]


def is_lost() -> bool:
    """Return whether nobody reads standard output any more."""
    return OUT in _lost


def _words(name: str) -> str:
    error = _lost[name]
    closed = getattr(error, "errno", None) == errno.EBADF
    reason = "it is closed" if closed else getattr(error, "strerror", None) or error
    return f"{_NAMES[name]} can't be written ({reason})"


# ------------------------------------------------------------------------------------------------ a process of hpcnn's


def occupy_descriptors() -> None:
    """Open on the null device what is closed of the first three descriptors, so that what is written there still fails.

    The next file that is opened would take the number, and what libraries print would be written into it.
    """
    for number in range(_DESCRIPTORS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)
    for name, number in ((OUT, 1), (ERROR, 2)):
        if getattr(sys, name) is None:
            _replace(name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def replace_streams() -> None:
    """Let all that prints in this process, libraries included, print through an `Output`. For commands."""
    occupy_descriptors()
    for name in (OUT, ERROR):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # else somebody captures it
            _replace(name, stream)


def _replace(name: str, stream: TextIO) -> None:
    setattr(sys, name, Output(name, stream))
    atexit.register(_drop_rest, name, stream)


def _drop_rest(name: str, stream: TextIO) -> None:
    """Let Python, as it ends, write to the null device what it could not write, in place of complaining."""
    with suppress(OSError, ValueError):
        output(name).flush()
        if name in _lost:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            stream.flush()


def begin_command(*, goes_on: bool = False) -> None:
    """Begin a command that prints a result, or one that `goes_on` without its display."""
    _lost.clear()
    _Policy.at_once = goes_on


def end_command(exit_code: int) -> int:
    """Return the exit code of a command that prints a result: it has failed if the result can't be written.

    A reader that has read enough, as in ``hpcnn status | head``, is no failure.
    """
    output(OUT).flush()
    if not _Policy.at_once and OUT in _lost and not isinstance(_lost[OUT], BrokenPipeError):
        write_line(f"hpcnn: error: {_words(OUT)}, so that the result is lost, or a part of it", ERROR)
        exit_code = exit_code or EXIT_FAILURE
    _Policy.at_once = True
    return exit_code
