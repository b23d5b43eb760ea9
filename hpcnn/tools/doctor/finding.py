"""What a check comes to: all is well, something is worth knowing, or something must be fixed."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"
LEVELS = (OK, WARNING, PROBLEM)


@dataclass(frozen=True)
class Finding:
    """One sentence with its evidence, and its fix."""

    check: str
    """Its name, for people."""
    level: str
    """One of `LEVELS`. A problem makes training fail, or many times slower; a warning may cost speed, or come later."""
    what: str
    fix: str = ""
    """The command, or the line of a file, that fixes it."""


def ok(check: str, what: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(check, OK, what)


def warning(check: str, what: str, fix: str) -> Finding:
    """Return a warning."""
    return Finding(check, WARNING, what, fix)


def problem(check: str, what: str, fix: str) -> Finding:
    """Return a finding that must be fixed."""
    return Finding(check, PROBLEM, what, fix)
