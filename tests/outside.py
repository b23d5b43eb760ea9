"""Kills, stops and terminates ranks and launchers from outside, at any moment from the start of mpirun on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.mpi.launch import Mpi

_RANK_VARIABLES = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")
_POLL_S = 0.01
HUNG_S = 60.0
"""A job that has not ended so long after the last blow, on a busy machine, never will."""
ACTIONS = {"KILL": 6, "STOP": 2, "TERM": 1}
"""Signals, and how often each is drawn."""


@dataclass
class Blow:
    """What happens to a job from outside."""

    after_s: float
    signal: signal.Signals
    victims: list[int]
    """Which of the ranks that are there, counted around; empty for the launcher itself."""

    def __str__(self) -> str:
        who = f"ranks {self.victims}" if self.victims else "launcher"
        return f"{self.signal.name} to {who} after {self.after_s:.2f} s"


@dataclass
class Ended:
    """How a job ended."""

    code: int
    out: str
    err: str
    after_blow_s: float
    """From the last blow to the end; negative if the job had ended before."""
    hung: bool = False
    stacks: list[str] = field(default_factory=list)
    """Where the ranks of a job that hung were."""


def children_of() -> dict[int, list[int]]:
    """Return the children of every process."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    return children


def family(process: int) -> list[int]:
    """Return all processes below one."""
    children, found = children_of(), [process]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def ranks_of(launcher: int) -> dict[int, int]:
    """Return the process of each rank that runs below a launcher: the uppermost whose environment says so."""
    children, found, level = children_of(), {}, [launcher]
    while level:
        below = []
        for process in level:
            for child in children.get(process, []):
                rank = _rank_of(child)
                if rank is None:
                    below.append(child)
                else:
                    found[rank] = child
        level = below
    return found


def _rank_of(process: int) -> int | None:
    with suppress(OSError):
        for setting in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            for name in _RANK_VARIABLES:
                if setting.startswith(name):
                    return int(setting.removeprefix(name))
    return None


def random_blows(rng: random.Random, ranks: int, usual_s: float, *, launcher: bool) -> list[Blow]:
    """Draw one or two, at moments from the start of mpirun to the job's usual end and a little beyond."""
    first = rng.uniform(0, 1.1 * usual_s) if rng.random() < 0.7 else rng.uniform(0, 1.5)
    number = rng.choices(list(ACTIONS), list(ACTIONS.values()))[0]
    if launcher and rng.random() < 0.1:
        return [Blow(first, signal.Signals[f"SIG{'KILL' if number == 'STOP' else number}"], [])]
    victims = rng.sample(range(ranks), 2 if ranks > 2 and rng.random() < 0.4 else 1)
    if len(victims) == 2 and rng.random() < 0.5:
        second = first + rng.choice([0.005, 0.05, 0.5]) * rng.random()
        return [Blow(first, signal.SIGKILL, victims[:1]), Blow(second, signal.SIGKILL, victims[1:])]
    return [Blow(first, signal.Signals[f"SIG{number}"], victims)]


def strike(process: subprocess.Popen[str], blows: list[Blow]) -> float:
    """Strike at the job at the moments given; return when the last one fell, or 0 if it had ended before."""
    begin, last = time.monotonic(), 0.0
    for blow in blows:
        while time.monotonic() < begin + blow.after_s and process.poll() is None:
            time.sleep(_POLL_S)
        targets: list[int] = []
        while not targets and process.poll() is None:  # at first, no rank may be there
            there = ranks_of(process.pid)
            targets = [there[rank] for rank in blow.victims if rank in there] if blow.victims else [process.pid]
            if not targets:
                time.sleep(_POLL_S)
                if there and set(blow.victims).isdisjoint(there) and time.monotonic() > begin + blow.after_s + 1:
                    break  # they are dead
        for target in targets:
            with suppress(ProcessLookupError):
                os.kill(target, blow.signal)
                last = time.monotonic()
    return last


def struck(mpi: Mpi, ranks: int, arguments: tuple[str | Path, ...], folder: Path, blows: list[Blow]) -> Ended:
    """Run a job and strike at it; all that is left of it is gone when this returns."""
    process = mpi.start(ranks, *arguments, cwd=folder)
    seen: set[int] = set()
    output: list[tuple[str, str]] = []
    reader = threading.Thread(target=lambda: output.append(process.communicate()))
    reader.start()
    blows_fell: list[float] = []
    striker = threading.Thread(target=lambda: blows_fell.append(strike(process, blows)))
    striker.start()
    deadline = time.monotonic() + blows[-1].after_s + HUNG_S
    while reader.is_alive() and time.monotonic() < deadline:
        seen |= set(family(process.pid))
        reader.join(0.1)
    end, hung = time.monotonic(), reader.is_alive()
    stacks = [_stack_of(one) for one in sorted(seen)] if hung else []
    for one in (process.pid, *seen):
        if _runs_here(one, folder) or (one == process.pid and process.poll() is None):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
    reader.join()
    striker.join()
    out, err = output[0]
    return Ended(process.returncode, out, err, end - blows_fell[0] if blows_fell[0] else -1.0, hung, stacks)


def _runs_here(process: int, folder: Path) -> bool:
    """Return whether a process works in the folder of the job: its number may be another's by now."""
    try:
        return Path(f"/proc/{process}/cwd").resolve() == folder.resolve()
    except OSError:
        return False


def _stack_of(process: int) -> str:
    """Return where a process is, as far as the machine has a tool to say so (HPCNN_PY_SPY)."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return f"{process}: gone"
    tool = os.environ.get("HPCNN_PY_SPY")
    if tool is None or "python" not in words:
        return f"{process} ({state}): {words}"
    options = ["--nonblocking"] if state in "Tt" else ["--native"]
    try:
        done = subprocess.run([tool, "dump", *options, "-p", str(process)], capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return f"{process} ({state}): {words}\nno stack"
    return f"{process} ({state}): {words}\n{done.stdout}{done.stderr}"
