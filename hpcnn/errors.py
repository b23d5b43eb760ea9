"""Every error that hpcnn raises on purpose: one tree, each branch also the standard class that fits."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NoReturn

EXIT_DONE = 0
EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_STOPPED = 75
"""Stopped early on request, resumable, and saved if there was anything to save (``EX_TEMPFAIL`` of sysexits.h)."""
EXIT_STALLED = 70
"""Some rank made no progress (``EX_SOFTWARE`` of sysexits.h)."""
EXIT_INTERRUPTED = 130
"""Interrupted twice: left at once."""


class HpcnnError(Exception):
    """Base of all errors that hpcnn raises on purpose. Its text says what was given, what is allowed, what to do."""

    exit_code = EXIT_BAD_INPUT


class JobError(HpcnnError, ValueError):
    """A setting of the job file, or two that contradict each other."""


class DataError(HpcnnError, ValueError):
    """A data file that is missing, damaged, or does not fit the job."""


class ModelError(HpcnnError, ValueError):
    """Layers that do not fit together, or do not fit the data."""


class CheckpointError(HpcnnError, ValueError):
    """A checkpoint or run folder that is missing, damaged, or of another job."""


class CommunicatorError(HpcnnError, RuntimeError):
    """The wrong MPI, the wrong launcher, or more ranks than gradient shards."""


class MissingExtraError(HpcnnError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'hpcnn[{extra}]'"
        )


class MissingCoreError(HpcnnError, ImportError):
    """The compiled core is not there, can't be loaded on this machine, or lacks what was asked for."""


class DivergedError(HpcnnError, ArithmeticError):
    """The loss or a gradient is no longer finite. No file is touched: the last checkpoint stays."""

    exit_code = EXIT_FAILURE


class DriftError(HpcnnError, RuntimeError):
    """The replicas of the ranks are no longer the same."""

    exit_code = EXIT_FAILURE


class PeerError(HpcnnError, RuntimeError):
    """Another rank failed; its own message says why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_MOST_NAMES = 50
_MOST_CHARACTERS = 300
_MOST_LISTED = 1500


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name closest to `name`, or an empty string.

    >>> nearest("adma", ["sgd", "adam"])
    " Did you mean 'adam'?"
    >>> nearest("zzz", ["sgd", "adam"])
    ''
    """
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {shortened(repr(match[0]))}?" if match else ""


def shortened(text: object, limit: int = _MOST_CHARACTERS) -> str:
    r"""Return a text, cut to a length that fits a message, without codes of terminals: it may quote a stranger's file.

    >>> shortened("x" * 1000)[-5:], shortened("\x1b[2Jname")
    ('xx...', '\\x1b[2Jname')
    """
    text = str(text)
    text = text if len(text) <= limit else text[: limit - 3] + "..."
    return text if text.isprintable() else "".join(map(_printable, text))


def in_words(error: BaseException) -> str:
    r"""Return the type and the text of an error of another's code as a piece of one line, cut as `shortened` does.

    >>> in_words(ValueError("no such\n  thing"))
    'ValueError: no such thing'
    >>> in_words(SystemExit(3))
    'sys.exit(3)'
    """
    if isinstance(error, SystemExit):  # or of a class of its own, in hpcnn.fit
        return f"sys.exit({shortened(', '.join(map(repr, error.args)))})"
    text = " ".join(shortened(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _printable(character: str) -> str:
    return character if character.isprintable() or character == "\n" else repr(character)[1:-1]


def unknown_name(
    kind: str, name: object, known: Iterable[str], error: type[HpcnnError] = JobError, remedy: str = ""
) -> NoReturn:
    """Raise `error` for a name that is in no registry: the nearest known one, then the full list, then what to do."""
    names = sorted(known)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    listed = f"{shortened(', '.join(names[:_MOST_NAMES]), _MOST_LISTED)}{more}."
    raise error(
        f"unknown {kind} {shortened(repr(name))}.{nearest(str(name), names)} Known: {listed}{remedy and ' '}{remedy}"
    )
