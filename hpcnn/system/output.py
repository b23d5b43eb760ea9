"""Output that never stops the work: text that can't be written is dropped, with one warning on the other stream.

Disks fill up, readers of pipes end, terminals are closed, and some programs are started without any output.
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
"""Standard input, standard output and standard error."""

_lost: dict[str, OSError | ValueError] = {}
"""The first error of each stream."""


class _Policy:
    """Whether a loss is reported at once, because the work continues; else the command reports it at its end."""

    at_once = True


class Output:
    """A text stream that accepts everything, and drops what can't be written.

    Args:
        name: `OUT` or `ERROR`.
        stream: where to write; None if the process was started without it.
    """

    def __init__(self, name: str, stream: TextIO | None) -> None:
        self._name, self._stream = name, stream

    def write(self, text: str) -> int:
        """Write a text, with escapes for characters that the encoding lacks: a path may have any bytes."""
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
        """Write each of these texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
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
        if isinstance(error, BlockingIOError):  # the terminal is non-blocking: the buffer keeps the text
            return
        first = _lost.setdefault(self._name, error) is error
        other = ERROR if self._name == OUT else OUT
        if not _Policy.at_once or other in _lost:
            return
        said = f"hpcnn: warning: {_words(self._name)}; the work continues without it\n" if first else ""
        if self._name == ERROR:
            said += text  # warnings and errors must be seen somewhere
        if said:
            output(other).write(said)
            output(other).flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Flush, and leave the stream open, since others print to it too."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_stream":  # `copy` asks for these before there is a stream
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._stream, name)


def output(name: str = OUT) -> Output:
    """Return the current standard output or standard error as an `Output`."""
    stream = getattr(sys, name)
    return stream if isinstance(stream, Output) else Output(name, stream)


def raw_output() -> Output:
    """Return standard output itself, even while a live display of rich has replaced it."""
    stream = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    return stream if isinstance(stream, Output) else Output(OUT, stream)


def write_line(text: str, name: str = OUT) -> None:
    """Print one line with a single write, and flush: launchers interleave what ranks write."""
    stream = output(name)
    stream.write(text + "\n")
    stream.flush()


def losses() -> list[str]:
    """Describe which streams have lost text, and why."""
    return [_words(name) for name in _lost]


def is_lost() -> bool:
    """Return whether standard output can't be written any more."""
    return OUT in _lost


def _words(name: str) -> str:
    error = _lost[name]
    closed = getattr(error, "errno", None) == errno.EBADF
    reason = "it is closed" if closed else getattr(error, "strerror", None) or error
    return f"{_NAMES[name]} can't be written ({reason})"


# ------------------------------------------------------------------------------------------------ a process of hpcnn's


def occupy_descriptors() -> None:
    """Open the null device, for reading, on each of the first three descriptors that is closed.

    Otherwise the next file to be opened would get that number, and libraries would print into it.
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
    """Make everything in this process, libraries included, print through an `Output`. For commands."""
    occupy_descriptors()
    for name in (OUT, ERROR):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # else somebody captures it
            _replace(name, stream)


def _replace(name: str, stream: TextIO) -> None:
    setattr(sys, name, Output(name, stream))
    atexit.register(_drop_rest, name, stream)


def _drop_rest(name: str, stream: TextIO) -> None:
    """Let Python write to the null device at its end what it could not write, instead of reporting an error."""
    with suppress(OSError, ValueError):
        output(name).flush()
        if name in _lost:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            stream.flush()


def begin_command(*, continues: bool = False) -> None:
    """Begin a command that prints a result, or one that `continues` without output."""
    _lost.clear()
    _Policy.at_once = continues


def end_command(exit_code: int) -> int:
    """Return the exit code of a command that prints a result: a failure if the result can't be written.

    A reader that stops early, as in ``hpcnn status | head``, is not a failure.
    """
    output(OUT).flush()
    if not _Policy.at_once and OUT in _lost and not isinstance(_lost[OUT], BrokenPipeError):
        write_line(f"hpcnn: error: {_words(OUT)}, so the result is lost, or a part of it", ERROR)
        exit_code = exit_code or EXIT_FAILURE
    _Policy.at_once = True
    return exit_code
