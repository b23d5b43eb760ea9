"""Runs that are killed -9 while they save: what is left must be whole, no older than the last save, and resume.

``python -m tests.kill_in_save --runs 100 --seed 1`` prints what it saw, and fails if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpcnn.errors import CheckpointError
from hpcnn.runs.checkpoints.index import newest_that_verifies
from hpcnn.runs.run_folder import RunFolder
from hpcnn.storage import hashing
from hpcnn.storage.checkpoint import read_facts
from tests.mpi.launch import ROOT, Mpi, mpich, sha256_of

JOB = (
    "program.py", ROOT / "jobs" / "digits_mlp.toml", "--out", "run", "--quiet", "--set", "train.epochs=3",
    "--set", "train.batch_size=128", "--set", "run.checkpoint_every_steps=1", "--set", "model.layers.1.units=600",
)  # fmt: skip
PROGRAM = """
import sys
from hpcnn.storage import disk, hashing
from hpcnn.runs.checkpoints import saver, together
saver._SMALL_BYTES, together.FEWEST_HOSTS = 0, 1  # so that every rank writes its part
disk._SYNC_BYTES = hashing.CHUNK = 65536
save = saver.save_together
def noted(comm, content, path, **options):
    if comm.rank == 0:
        print(f"begins {path.name}", flush=True)
    trouble = save(comm, content, path, **options)
    if comm.rank == 0 and not trouble:
        print(f"saved {path.name}", flush=True)
    return trouble
saver.save_together = noted
from hpcnn.train import main
sys.exit(main())
"""
"""A training that says when a save begins and when it is complete."""

SMALL_CHUNK = 65536

MOST_DELAY_S = 0.03
"""More than a save takes: some kills come between two."""
RANKS = (1, 2, 3)
LIMIT_S = 60.0


@dataclass
class Tally:
    """What was seen of all runs."""

    runs: int = 0
    left: Counter[str] = field(default_factory=Counter)
    """How a kill left the folder."""
    wrong: list[str] = field(default_factory=list)


def kill_while_saving(mpi: Mpi, folder: Path, rng: random.Random) -> list[str]:
    """Start a run, kill one rank or all processes at once at some save, and return the lines that it printed.

    What is left of it after the loss of a rank has to end by itself.
    """
    process = mpi.start(rng.choice(RANKS), *JOB, "--resume", "auto", cwd=folder)
    assert process.stdout is not None
    lines, wanted = [], rng.randrange(1, 12)
    for line in process.stdout:
        lines.append(line.strip())
        if sum(each.startswith("begins") for each in lines) == wanted:
            time.sleep(rng.uniform(0, MOST_DELAY_S))
            break
    below = descendants(process.pid)
    chosen = [rng.choice(ranks)] if (ranks := ranks_among(below)) and rng.random() < 0.5 else [*below, process.pid]
    for each in chosen:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    out, _ = process.communicate(timeout=LIMIT_S)
    return [*lines, *out.splitlines()]


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one, the ranks first."""
    table = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in table.splitlines()]
    found, above = [], {pid}
    while above:
        above = {child for child, parent in parents if parent in above}
        found = [*sorted(above), *found]
    return found


def ranks_among(processes: list[int]) -> list[int]:
    """Return which of these processes are ranks of the program that mpirun started."""

    def command(process: int) -> bytes:
        with suppress(OSError):
            return Path(f"/proc/{process}/cmdline").read_bytes()
        return b""

    words = {process: command(process).split(b"\0") for process in processes}
    return [process for process in processes if b"python" in words[process][0] and b"program.py" in words[process]]


def step_of(name: str) -> int:
    found = re.search(r"step-(\d+)", name)
    return int(found[1]) if found else 0


def run_once(mpi: Mpi, folder: Path, rng: random.Random, reference: tuple[str, bytes], tally: Tally) -> None:
    """Kill a run in some saves one after the other, and resume it to its end."""
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    run = RunFolder(folder / "run")
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = kill_while_saving(mpi, folder, rng)
        tally.runs += 1
        saved = max((step_of(line) for line in lines if line.startswith("saved step")), default=0)
        check_left(run, saved, tally)
    done = mpi.run(rng.choice(RANKS), *JOB, "--resume", "auto", cwd=folder, timeout_s=LIMIT_S)
    if done.returncode != 0 or sha256_of(done.stdout) != reference[0]:
        tally.wrong.append(f"resumed: code {done.returncode}\\n{done.stdout}\\n{done.stderr}")
    elif run.last.read_bytes() != reference[1]:
        tally.wrong.append("resumed: the last checkpoint is not, byte by byte, the file that one rank writes")
    leftovers = [path.name for path in run.checkpoints.iterdir() if path.suffix == ".tmp"]
    if leftovers:
        tally.wrong.append(f"left over after the end: {leftovers}")


def check_left(run: RunFolder, saved: int, tally: Tally) -> None:
    """Check what a killed run left: its newest checkpoint verifies and is no older than the last complete save."""
    with small_chunks():
        check_newest(run, saved, tally)


@contextmanager
def small_chunks() -> Iterator[None]:
    """Hash as the killed runs do."""
    chunk, hashing.CHUNK = hashing.CHUNK, SMALL_CHUNK
    try:
        yield
    finally:
        hashing.CHUNK = chunk


def check_newest(run: RunFolder, saved: int, tally: Tally) -> None:
    temporary = any(path.suffix == ".tmp" for path in run.checkpoints.glob(".*")) if run.checkpoints.exists() else False
    tally.left["within a write" if temporary else "between writes"] += 1
    try:
        newest = newest_that_verifies(run)
    except CheckpointError as error:
        tally.wrong.append(str(error))
        return
    step = read_facts(newest)["progress"]["step"] if newest else 0
    if step < saved:
        tally.wrong.append(f"the newest checkpoint is of step {step}, but step {saved} was saved")
    for link in (run.last, run.best):
        if link.is_symlink():
            tally.wrong.append(f"{link.name} is a symbolic link")


def reference_of(mpi: Mpi, folder: Path) -> tuple[str, bytes]:
    """Return the hash and the last checkpoint of a run on one rank that nothing happens to."""
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    done = mpi.run(1, *JOB, cwd=folder, timeout_s=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return sha256_of(done.stdout), RunFolder(folder / "run").last.read_bytes()


def kill_runs(mpi: Mpi, folder: Path, runs: int, seed: int) -> Tally:
    """Kill at least `runs` runs, and return what was seen."""
    tally, rng = Tally(), random.Random(seed)
    reference = reference_of(mpi, folder / "reference")
    number = 0
    while tally.runs < runs:
        number += 1
        run_once(mpi, folder / str(number), rng, reference, tally)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_runs(mpich(), Path(folder), arguments.runs, arguments.seed)
    print(f"{tally.runs} runs killed: {dict(tally.left)}; wrong: {len(tally.wrong)}")
    for text in tally.wrong:
        print(text, file=sys.stderr)
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
