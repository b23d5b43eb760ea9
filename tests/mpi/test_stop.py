"""Signals: all ranks stop after the same step, save, and leave with the code for "stopped early, resumable"."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi, finish, sha256_of

JOB = ROOT / "jobs" / "digits_mlp.toml"
# A constant rate, since a cosine over more epochs would be another job.
LONG = ("--set", "schedule.name=constant", "--set", "train.epochs=2000")
STOPPED = 75
STOP_WITHIN_S = 10.0


def start_and_wait_for_steps(mpi: Mpi, ranks: int, cwd: Path, *options: str) -> subprocess.Popen[str]:
    """Start a long run, and return once its first epoch is in the log."""
    process = mpi.start(ranks, "-m", "hpcnn.train", JOB, *LONG, "--out", "run", *options, cwd=cwd)
    metrics = cwd / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, finish(process, 5)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def ranks_below(launcher: int) -> list[int]:
    """Return the process ids of the Python ranks under a launcher."""
    table = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [(int(pid), int(parent), name) for pid, parent, name in (line.split(None, 2) for line in table.splitlines())]
    below, found = {launcher}, []
    for _ in range(4):
        children = [(pid, name) for pid, parent, name in rows if parent in below]
        found += [pid for pid, name in children if name.startswith("python")]
        below = {pid for pid, _ in children}
    return sorted(found)


def check_stopped(process: subprocess.Popen[str]) -> int:
    """Return the step after which the job stopped."""
    begin = time.monotonic()
    done = finish(process, 60)
    assert time.monotonic() - begin < STOP_WITHIN_S
    assert done.returncode == STOPPED, f"{done.stdout}\n{done.stderr}"
    found = re.search(r"stopped( on \w+)? after step (\d+) ", done.stdout)
    assert found, done.stdout
    return int(found[2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ranks", [0, 3])
def test_signal_to_the_launcher(mpich: Mpi, tmp_path: Path, ranks: int, number: signal.Signals) -> None:
    process = start_and_wait_for_steps(mpich, ranks, tmp_path)
    process.send_signal(number)
    check_stopped(process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_to_one_rank_stops_all_and_the_run_goes_on(mpich: Mpi, tmp_path: Path, number: signal.Signals) -> None:
    process = start_and_wait_for_steps(mpich, 3, tmp_path)
    ranks = ranks_below(process.pid)
    assert len(ranks) == 3
    os.kill(ranks[-1], number)
    step = check_stopped(process)

    # Both end 30 steps later: the one resumed on two ranks, and one that was never stopped.
    command = ("-m", "hpcnn.train", JOB, *LONG, "--quiet", "--set", f"run.stop_at_step={step + 30}")
    resumed = mpich.run(2, *command, "--out", "run", "--resume", "auto", cwd=tmp_path)
    straight = mpich.run(0, *command, "--out", "straight", cwd=tmp_path)
    assert (resumed.returncode, straight.returncode) == (STOPPED, STOPPED), f"{resumed.stderr}\n{straight.stderr}"
    last = [weights_sha256(tmp_path / out / "checkpoints" / "last.safetensors") for out in ("run", "straight")]
    assert last[0] == last[1]


def weights_sha256(path: Path) -> str:
    from hpcnn.training.checkpoint import load_checkpoint

    return str(load_checkpoint(path).facts["weights_sha256"])


def test_open_mpi_hands_signals_on(open_mpi: Mpi, tmp_path: Path) -> None:
    process = start_and_wait_for_steps(open_mpi, 2, tmp_path)
    process.send_signal(signal.SIGUSR1)
    check_stopped(process)


SLOW_SAVE = """
import sys, time
from hpcnn.training import session
save = session.save_checkpoint
def slow(*arguments):
    time.sleep(2)
    save(*arguments)
session.save_checkpoint = slow
from hpcnn.train import main
sys.exit(main([{job!r}, "--out", "run", "--quiet", "--set", "run.stop_at_step=5"]))
"""


def test_nobody_leaves_while_rank_0_saves(mpi: Mpi, tmp_path: Path) -> None:
    """A launcher may end the whole job as soon as one rank leaves with a code that is not 0."""
    (tmp_path / "program.py").write_text(SLOW_SAVE.format(job=str(JOB)))
    done = mpi.run(2, "program.py", cwd=tmp_path)
    assert done.returncode == STOPPED, done.stderr
    assert "after step 5 " in done.stdout
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").exists()


def test_a_second_interrupt_leaves_at_once(mpich: Mpi, tmp_path: Path) -> None:
    """In the midst of a step that takes long: the first asks, the second does not wait."""
    program = tmp_path / "slow.py"
    program.write_text(
        "import sys, time\n"
        "from hpcnn.training.loader import ShardLoader\n"
        "fast = ShardLoader.shard\n"
        "def slow(self, step, shard):\n"
        "    if step == 2:\n"
        "        print('slow step', flush=True)\n"
        "        time.sleep(60)\n"
        "    return fast(self, step, shard)\n"
        "ShardLoader.shard = slow\n"
        "from hpcnn.train import main\n"
        f"sys.exit(main([{str(JOB)!r}, '--out', 'run']))\n"
    )
    process = mpich.start(0, program, cwd=tmp_path)
    assert process.stdout is not None
    while "slow step" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    done = finish(process, 10)
    assert done.returncode == 130
    assert "interrupted twice" in done.stderr


def test_the_hash_is_printed_by_the_last_line(mpich: Mpi, tmp_path: Path) -> None:
    done = mpich.run(0, "-m", "hpcnn.train", JOB, "--set", "train.epochs=1", cwd=tmp_path)
    assert re.fullmatch(r"[0-9a-f]{64}", sha256_of(done.stdout))
