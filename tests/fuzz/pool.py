"""Worker processes that read the cases, with an eye on each: one that dies or hangs is replaced, and reported."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

HANG_S = 20.0
START_S = 120.0
RENEWED = 1000
"""Cases of one process: after some more, what was freed lies so scattered that a large case meets the limit."""
ROOT = Path(__file__).parents[2]

Case = tuple[str, int]
"""Kind and number."""


@dataclass(frozen=True)
class Outcome:
    """How one case ended: in an "error" or a "read", or "lost" with the process; `fault` says what is wrong."""

    kind: str
    number: int
    damage: str
    ended: str
    fault: str
    seconds: float
    mb: float
    message: str = ""


class Worker:
    """One process; a context manager that leaves nothing behind."""

    def __init__(self, kinds: Sequence[str], program: Sequence[str]) -> None:
        self._kinds, self._program = list(kinds), program
        self._folder = tempfile.TemporaryDirectory()
        self._start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()
        self._folder.cleanup()

    def _start(self) -> None:
        self._cases = 0
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "ARROW_DEFAULT_MEMORY_POOL": "system"}
        environment["MALLOC_ARENA_MAX"] = "1"  # each arena reserves 64 MiB of the addresses that a case may take
        folder = tempfile.mkdtemp(dir=self._folder.name)
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self._program],
            cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._send(self._kinds)
        if not self._answer(START_S):
            raise RuntimeError("the worker can't read the sound files; its own message is above")

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")

    def _answer(self, timeout_s: float) -> str | None:
        """Return the next line, an empty one if the process has ended, or None if it said nothing in time."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        return self._process.stdout.readline() if ready else None

    def _stop(self) -> None:
        """End the process, if it has not ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def run(self, case: Case, seed: int) -> Outcome:
        """Return how a case ended."""
        if self._cases == RENEWED:
            self._stop()
            self._start()
        self._cases += 1
        self._send([*case, seed])
        answer = self._answer(HANG_S)
        if answer:
            return Outcome(**json.loads(answer))
        hung = answer is None
        fault = f"no end within {HANG_S:.0f} s" if hung else f"the process ended with {self._process.wait(HANG_S)}"
        self._stop()
        self._start()
        return Outcome(*case, damage="?", ended="lost", fault=fault, seconds=HANG_S if hung else 0.0, mb=0.0)


def run(
    cases: Sequence[Case], seed: int, workers: int, program: Sequence[str] = ("tests.fuzz.worker",)
) -> list[Outcome]:
    """Run all cases and return their outcomes, in order. `program` is the worker's module, with its arguments."""
    kinds = list(dict.fromkeys(kind for kind, _ in cases))
    outcomes: list[Outcome | None] = [None] * len(cases)

    def work(first: int) -> None:
        with Worker(kinds, program) as worker:
            for place in range(first, len(cases), workers):
                outcomes[place] = worker.run(cases[place], seed)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))
    return [one for one in outcomes if one is not None]
