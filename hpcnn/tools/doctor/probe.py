"""Lets ranks connect in processes of their own and listens how far they come: MPI may crash, or never come back."""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

import msgspec

from hpcnn.errors import shortened
from hpcnn.system.output import ERROR, write_line
from hpcnn.tools.doctor import probe_program
from hpcnn.tools.doctor.evidence import Local, Probe
from hpcnn.tools.doctor.timed_command import end, package_environment

_LAST_LINES = 8
_TELLING = re.compile(r"error|fail|signal|abort|no such|not found|denied|refused", re.IGNORECASE)
_END_S = 10.0
"""How long processes may take to end after their last line."""


def probe_alone(launcher: Sequence[str], environment: Mapping[str, str], limit_s: float, *, measure: bool) -> Probe:
    """Return what comes of ranks that the command `launcher` starts, each of whose steps may take `limit_s`."""
    command = [*launcher, *_program(measure=measure)]
    evidence = _run_probe(command, environment, "", limit_s, apart=True)
    evidence.pop("locals", None)
    return msgspec.convert({**evidence, "command": " ".join(launcher)}, Probe)


def probe_launched(own: Local, limit_s: float, *, measure: bool) -> tuple[Probe, list[Local]]:
    """Connect a child of this rank with those of the others; return what came of it, and what all ranks know.

    The child takes the rank's place in the eyes of the launcher, whose connections it inherits.
    """
    told = msgspec.json.encode(own).decode() + "\n"
    evidence = _run_probe([*_program(measure=measure), probe_program.TOLD], os.environ, told, limit_s, apart=False)
    everyone = [probe_program.read_local(text) for text in evidence.pop("locals", [])]
    return msgspec.convert(evidence, Probe), everyone or [own]


def _program(*, measure: bool) -> list[str]:
    return [sys.executable, "-P", "-m", probe_program.__name__, *([probe_program.MEASURE] if measure else [])]


def _run_probe(
    command: Sequence[str], environment: Mapping[str, str], told: str, limit_s: float, *, apart: bool
) -> dict[str, Any]:
    """Return what a command's ranks tell; only that it can't be started, where it can't."""
    try:
        listener = _Listener(command, environment, told, apart=apart)
    except OSError as error:  # a script whose Python is gone, a program for other processors, no more processes
        return {"error": f"{command[0]} can't be started ({error.strerror})"}
    return listener.listen(limit_s)


class _Listener:
    """Runs a command that reads `told`, and takes down what its ranks say; `apart` from all that this process is in."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], told: str, *, apart: bool) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors = deque[str](maxlen=_LAST_LINES)
        self._process = subprocess.Popen(
            command,
            env=package_environment(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            close_fds=apart,
            start_new_session=apart,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            self._read(self._process.stdout, self._lines.put),
            self._read(self._process.stderr, self._keep_error if apart else self._pass_on),
        ]
        with suppress(OSError):  # it is gone already: its answer says why
            self._process.stdin.write(told)
            self._process.stdin.close()

    def listen(self, limit_s: float) -> dict[str, Any]:
        """Return all evidence that the ranks sent, with an ``error`` if it did not end well.

        Only evidence proves that the ranks make progress: libraries may print for ever.
        """
        evidence: dict[str, Any] = {}
        deadline = time.monotonic() + limit_s
        try:
            while (line := self._lines.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
                if line.startswith(probe_program.MARK):
                    evidence |= json.loads(line.removeprefix(probe_program.MARK))
                    deadline = time.monotonic() + limit_s
                    continue
                self._keep_error(line)  # mpirun of MPICH tells there of signals
                if time.monotonic() > deadline:
                    raise TimeoutError
            self._process.wait(_END_S)
            self._readers[1].join(_END_S)
            if self._process.returncode and not evidence.get("error"):
                evidence["error"] = self._last_words() or f"it ended with code {self._process.returncode}"
        except (queue.Empty, TimeoutError, subprocess.TimeoutExpired):
            words = self._last_words()
            evidence["error"] = f"no answer within {limit_s:g} s" + (f"; the last words: {words}" if words else "")
        finally:
            end(self._process)
            for reader in self._readers:
                reader.join(1.0)
        return evidence

    def _read(self, stream: IO[str], take: Callable[[str | None], None]) -> threading.Thread:
        def read() -> None:
            with suppress(OSError, ValueError), stream:
                for line in stream:
                    take(line.strip())
            take(None)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _keep_error(self, line: str | None) -> None:
        if line and line.strip("-=*"):
            self._errors.append(line)

    def _pass_on(self, line: str | None) -> None:
        """Show at once what may be the last words: a launcher that ends a job kills this process, too."""
        if line is not None:
            write_line(line, ERROR)
        self._keep_error(line)

    def _last_words(self) -> str:
        lines = list(self._errors)  # a reader may still add to them
        return shortened("; ".join([line for line in lines if _TELLING.search(line)] or lines))
