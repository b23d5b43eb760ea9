"""Runs commands with a time limit: a program or a file system may never answer."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpcnn.errors import shortened

_GONE_S = 1.0
"""Time limit for a killed process to exit: one that waits for a dead file system never does."""


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str = ""
    error: str = ""

    @property
    def trouble(self) -> str:
        """What went wrong, in one line; empty if nothing did."""
        if self.code == 0:
            return ""
        lines = [line.strip() for line in (self.error or self.out).splitlines() if line.strip()]
        return shortened(lines[-1]) if lines else f"exit code {self.code}"


def run_timed(command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None) -> CommandResult:
    """Run a command and return its result; exit code 124 for a timeout, 127 for a missing program."""
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return CommandResult(127, error=f"{command[0]}: {error.strerror}")
    try:
        out, errors = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return CommandResult(124, error=f"no answer within {limit_s:g} s")
    finally:
        end(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return CommandResult(process.returncode, out, errors)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process with its session, if it is still there."""
    if process.poll() is not None:
        return
    with suppress(OSError):
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GONE_S)


def package_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which another Python finds this package, wherever it is started."""
    package = str(Path(__file__).parents[3])
    return {**environ, "PYTHONPATH": os.pathsep.join(filter(None, [package, environ.get("PYTHONPATH", "")]))}
