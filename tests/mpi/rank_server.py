"""Ranks that are started once and serve many tests: a call runs a function on the first few ranks of one mpirun.

A start costs each rank half a second of a processor, most of it for imports and MPI_Init. A test of what ranks compute
together can do without; one of launching, failing or ending can't. Each call gets a communicator of its own. After a
call that fails, hangs or loses a rank, the next one starts ranks anew, so that no test suffers from another.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import Any

import pytest

from tests.mpi.launch import Mpi
from tests.timing import WAIT_S

_PROGRAM = "import sys; from tests.mpi.rank_server import main; main(sys.argv[1])"
_OTHERS_S = 5.0
"""Where one rank has failed, the others, which may wait for it, have so long to answer."""
_DYING_S = 30.0
"""Within so long after the time limit, a rank has written its stacks and ended."""


@dataclass(frozen=True)
class Call:
    """What some ranks are to do."""

    ranks: int
    """How many; 0 is one without MPI."""
    function: str
    """``module:name`` of a function of the communicator and the arguments."""
    arguments: tuple[Any, ...]
    cwd: Path
    environment: dict[str, str]
    timeout_s: float


@dataclass(frozen=True)
class Answer:
    """What one rank returned and printed."""

    value: Any
    output: str
    error: str = ""
    """The traceback, if it failed."""


class RankServer:
    """Starts `most` ranks for the first call, and again where a call has spoilt them. Use it as a context manager."""

    def __init__(self, mpi: Mpi, most: int, folder: Path) -> None:
        self._mpi, self._most, self._folder = mpi, most, folder
        self._process: subprocess.Popen[str] | None = None
        self._links: list[Connection] = []
        self.starts = 0

    def __enter__(self) -> RankServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def call(
        self,
        ranks: int,
        function: str,
        *arguments: Any,
        cwd: Path,
        environment: dict[str, str] | None = None,
        timeout_s: float = WAIT_S,
    ) -> list[Answer]:
        """Return the answers of all ranks; fail the test, with what each of them says, if any fails or hangs."""
        assert ranks <= self._most
        if self._process is None:
            self._start()
        call = Call(ranks, function, arguments, cwd, environment or {}, timeout_s)
        links = self._links[: max(ranks, 1)]
        for link in links:
            link.send(call)
        found = self._answers(links, timeout_s + _DYING_S)
        answers = [found.get(link) for link in links]
        if None not in answers and not any(answer.error for answer in answers if answer):
            return [answer for answer in answers if answer]
        rest = self._end(patience_s=_OTHERS_S if len(found) == len(links) else 0)
        told = [
            f"rank {rank}: {answer.error or 'done' if answer else 'no answer'}" for rank, answer in enumerate(answers)
        ]
        pytest.fail("\n".join([f"{function} on {ranks} ranks of {self._mpi.name}", *told, rest]), pytrace=False)

    def _start(self) -> None:
        self.starts += 1
        address = str(self._folder / f"socket-{self.starts}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(self._most)
            listener.settimeout(WAIT_S)
            self._process = self._mpi.start(self._most, "-c", _PROGRAM, address, cwd=self._folder)
            links = [Connection(listener.accept()[0].detach()) for _ in range(self._most)]
        by_rank = {link.recv(): link for link in links}
        self._links = [by_rank[rank] for rank in range(self._most)]

    def _answers(self, links: list[Connection], timeout_s: float) -> dict[Connection, Answer | None]:
        """Return what the ranks answer; None for one that is gone, and nothing for one that hangs."""
        found: dict[Connection, Answer | None] = {}
        deadline = time.monotonic() + timeout_s
        while len(found) < len(links):
            waiting = [link for link in links if link not in found]
            ready = wait(waiting, max(0.0, deadline - time.monotonic()))
            if not ready:
                break
            for link in ready:
                assert isinstance(link, Connection)
                try:
                    found[link] = link.recv()
                except (EOFError, ConnectionResetError):
                    found[link] = None
                answer = found[link]
                if answer is None or answer.error:
                    deadline = min(deadline, time.monotonic() + _OTHERS_S)
        return found

    def _end(self, patience_s: float = _OTHERS_S) -> str:
        """End the ranks, if there are any, and return what they wrote outside of calls."""
        if self._process is None:
            return ""
        process, self._process = self._process, None
        for link in self._links:
            link.close()  # so those that wait for a call leave
        try:
            return "".join(process.communicate(timeout=patience_s))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "".join(process.communicate())


# ---------------------------------------------------------------------------------------------------------- on a rank


@contextlib.contextmanager
def _captured() -> Iterator[Callable[[], str]]:
    """Within the block, keep what this process writes, C code included; yield what returns it so far."""
    with tempfile.TemporaryFile("w+", errors="replace") as file:

        def text() -> str:
            sys.stdout.flush()
            sys.stderr.flush()
            file.seek(0)
            return file.read()

        text()
        kept = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield text
        finally:
            text()
            for number, copy in enumerate(kept, 1):
                os.dup2(copy, number)
                os.close(copy)


def _communicator(ranks: int) -> Any:
    from mpi4py import MPI

    from hpcnn.comm.mpi import MpiCommunicator
    from hpcnn.comm.serial import SerialCommunicator

    if ranks == 0:
        return SerialCommunicator()
    world = MPI.COMM_WORLD
    return MpiCommunicator(world.Create_group(world.Get_group().Incl(range(ranks))))


def _answer(call: Call, stacks: int) -> Answer:
    """Do what is asked for. One that hangs writes its stacks to the file `stacks` and ends, and so all ranks."""
    module, _, name = call.function.partition(":")
    before = dict(os.environ)
    faulthandler.dump_traceback_later(call.timeout_s, exit=True, file=stacks)
    try:
        os.environ |= call.environment
        with contextlib.chdir(call.cwd), _captured() as text:
            try:
                value = getattr(importlib.import_module(module), name)(_communicator(call.ranks), *call.arguments)
            except BaseException:
                return Answer(None, text(), traceback.format_exc())
            return Answer(value, text())
    finally:
        faulthandler.cancel_dump_traceback_later()
        for added in os.environ.keys() - before.keys():
            del os.environ[added]
        os.environ |= before


def main(address: str) -> None:
    """Serve calls until the test session ends."""
    from mpi4py import MPI

    stacks = os.dup(2)
    with Client(address, "AF_UNIX") as link:
        link.send(MPI.COMM_WORLD.rank)
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                link.send(_answer(link.recv(), stacks))
