"""Signals: all ranks stop after the same step, save, and leave with the code for "stopped early, resumable"."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcnn.core.stop_request import SIGNALS
from tests.mpi.launch import ROOT, Mpi, finish, sha256_of
from tests.timing import check_in_time, wait_until

pytestmark = pytest.mark.timed

JOB = ROOT / "jobs" / "digits_mlp.toml"
# A constant rate, since a cosine over more epochs would be another job.
LONG = ("--set", "schedule.name=constant", "--set", "train.epochs=2000")
STOPPED = 75
STOP_WITHIN_S = 10.0


def start_and_wait_for_steps(mpi: Mpi, ranks: int, cwd: Path, *options: str) -> subprocess.Popen[str]:
    """Start a long run, and return once its first epoch is in the log."""
    process = mpi.start(ranks, "-m", "hpcnn.train", JOB, *LONG, "--out", "run", *options, cwd=cwd)
    metrics = cwd / "run" / "metrics.jsonl"
    wait_while_running(process, lambda: metrics.exists() and metrics.stat().st_size)
    return process


def wait_while_running(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    wait_until(lambda: condition() or process.poll() is not None)
    assert process.poll() is None, finish(process)


def ranks_below(launcher: int) -> list[int]:
    """Return the process ids of the Python ranks under a launcher, by rank: process ids begin anew now and then."""
    table = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    rows = [(int(pid), int(parent), name) for pid, parent, name in (line.split(None, 2) for line in table.splitlines())]
    below: set[int] = {launcher}
    ranks: dict[int, int] = {}
    for _ in range(4):
        children = [(pid, name) for pid, parent, name in rows if parent in below]
        for pid, name in children:
            if name.startswith("python") and (rank := rank_of(pid)) is not None:
                ranks.setdefault(rank, pid)  # what a rank starts has its environment too
        below = {pid for pid, _ in children}
    return [ranks[rank] for rank in sorted(ranks)]


def rank_of(process: int) -> int | None:
    """Return the rank that the launcher gave a process; None if it has none, or is gone."""
    try:
        words = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    except OSError:
        return None
    variables = dict(word.partition("=")[::2] for word in words)
    return next((int(variables[name]) for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK") if name in variables), None)


def check_stopped(process: subprocess.Popen[str]) -> int:
    """Return the step after which the job stopped."""
    begin = time.monotonic()
    done = finish(process)
    seconds = time.monotonic() - begin
    assert done.returncode == STOPPED, f"{done.stdout}\n{done.stderr}"
    found = re.search(r"stopped( on \w+)? after step (\d+) ", done.stdout)
    assert found, done.stdout
    check_in_time(seconds, STOP_WITHIN_S)
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


def test_a_closed_terminal_is_no_matter_of_the_mpi_library(mpi: Mpi, tmp_path: Path) -> None:
    """UCX, below MPICH, takes SIGHUP for itself."""
    process = start_and_wait_for_steps(mpi, 2, tmp_path)
    os.kill(ranks_below(process.pid)[1], signal.SIGHUP)
    check_stopped(process)


def weights_sha256(path: Path) -> str:
    from hpcnn.storage.checkpoint import load_checkpoint

    return str(load_checkpoint(path).facts["weights_sha256"])


def test_open_mpi_hands_signals_on(open_mpi: Mpi, tmp_path: Path) -> None:
    process = start_and_wait_for_steps(open_mpi, 2, tmp_path)
    process.send_signal(signal.SIGUSR1)
    check_stopped(process)


SLOW_SAVE = """
import sys, time
from hpcnn.comm.launcher import detect_launch
from hpcnn.runs.checkpoints.saver import Saver
save = Saver.__call__
def slow(self, *arguments, **options):
    result = save(self, *arguments, **options)
    time.sleep(2 * (detect_launch().rank == 0))
    return result
Saver.__call__ = slow
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


LONG_CALL = """
import pathlib, sys, time
from hpcnn.comm.launcher import detect_launch
from hpcnn.{module} import {owner}
original, calls = {owner}.{name}, 0
def long(*arguments, **options):
    global calls
    calls += 1
    if detect_launch().rank == {rank} and calls == {call}:
        pathlib.Path("called").touch()
        while not pathlib.Path("go on").exists():
            time.sleep(0.01)
    return original(*arguments, **options)
{owner}.{name} = long
from hpcnn.train import main
sys.exit(main([{job!r}, "--out", "run", "--set", "train.epochs=1", "--set", "train.eval_batch_size=16"]))
"""


def start_long_call(
    mpi: Mpi, ranks: int, folder: Path, call: tuple[str, str, str, int], *, rank: int = 0
) -> subprocess.Popen[str]:
    """Start a run in which one rank stays in a call until there is a file ``go on``; return once it is there."""
    module, owner, name, number = call
    (folder / "long.py").write_text(
        LONG_CALL.format(module=module, owner=owner, name=name, call=number, rank=rank, job=str(JOB))
    )
    process = mpi.start(ranks, "long.py", cwd=folder)
    wait_while_running(process, (folder / "called").exists)
    time.sleep(1)
    return process


BEFORE_MPI = ("comm", "connect", "_connect_mpi", 1)
IN_SET_UP = ("data.samples", "Samples", "__len__", 1)
IN_A_STEP = ("training.loader", "ShardLoader", "shards", 9)
IN_EVALUATION = ("training.model", "Model", "eval_piece", 1)
AT_THE_END = ("runs.run_folder", "RunFolder", "write_result", 1)


def check_stopped_before_training(process: subprocess.Popen[str], number: signal.Signals) -> None:
    begin = time.monotonic()
    done = finish(process)
    seconds = time.monotonic() - begin
    assert done.returncode == STOPPED, f"{done.stdout}\n{done.stderr}"
    assert done.stderr.count(f"hpcnn: stopped by {number.name} before there was anything to save") == 1, done.stderr
    assert "Traceback" not in done.stderr
    check_in_time(seconds, STOP_WITHIN_S)


@pytest.mark.parametrize(
    ("ranks", "number"), [(0, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM), (2, signal.SIGUSR1)]
)
def test_a_signal_to_the_launcher_in_set_up(mpich: Mpi, tmp_path: Path, ranks: int, number: signal.Signals) -> None:
    process = start_long_call(mpich, ranks, tmp_path, IN_SET_UP)
    process.send_signal(number)
    check_stopped_before_training(process, number)


@pytest.mark.parametrize("place", [0, 1], ids=["the one that is busy", "one that waits within MPI"])
def test_a_signal_to_one_rank_in_set_up(mpi: Mpi, tmp_path: Path, place: int) -> None:
    process = start_long_call(mpi, 2, tmp_path, IN_SET_UP)
    os.kill(ranks_below(process.pid)[place], signal.SIGUSR2)
    check_stopped_before_training(process, signal.SIGUSR2)


def test_a_signal_before_mpi_is_up(mpi: Mpi, tmp_path: Path) -> None:
    process = start_long_call(mpi, 2, tmp_path, BEFORE_MPI, rank=1)
    os.kill(ranks_below(process.pid)[1], signal.SIGTERM)
    check_stopped_before_training(process, signal.SIGTERM)


def test_a_signal_in_evaluation(mpich: Mpi, tmp_path: Path) -> None:
    process = start_long_call(mpich, 2, tmp_path, IN_EVALUATION)
    os.kill(ranks_below(process.pid)[0], signal.SIGTERM)
    (tmp_path / "go on").touch()
    assert check_stopped(process) == 23


def test_a_signal_once_training_is_done_changes_nothing(mpich: Mpi, tmp_path: Path) -> None:
    process = start_long_call(mpich, 2, tmp_path, AT_THE_END)
    for number in SIGNALS:
        for rank in ranks_below(process.pid):
            os.kill(rank, number)
    (tmp_path / "go on").touch()
    done = finish(process)
    assert done.returncode == 0, done.stderr
    assert sha256_of(done.stdout)


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_second_interrupt_leaves_at_once(mpich: Mpi, tmp_path: Path, ranks: int) -> None:
    """In the midst of a step that takes long: the first asks, the second does not wait. Others wait within MPI."""
    process = start_long_call(mpich, ranks, tmp_path, IN_A_STEP)
    interrupted = ranks_below(process.pid)[-1] if ranks else process.pid
    os.kill(interrupted, signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None
    os.kill(interrupted, signal.SIGINT)
    begin = time.monotonic()
    done = finish(process)
    seconds = time.monotonic() - begin
    assert done.returncode == 130
    assert done.stderr.count("interrupted twice") == 1
    check_in_time(seconds, STOP_WITHIN_S)


@pytest.mark.parametrize("ranks", [0, 2])
def test_the_last_checkpoint_is_complete_within_max_minutes(mpich: Mpi, tmp_path: Path, ranks: int) -> None:
    begin = time.monotonic()
    done = mpich.run(
        ranks, "-m", "hpcnn.train", JOB, *LONG, "--out", "run", "--set", "run.max_minutes=0.1", cwd=tmp_path
    )
    assert done.returncode == STOPPED, done.stderr
    assert "stopped on run.max_minutes after step" in done.stdout
    assert (tmp_path / "run" / "checkpoints" / "last.safetensors").exists()
    seconds = time.monotonic() - begin
    assert seconds > 1
    check_in_time(seconds, 6 + 2)  # and the start and the end of Python


def test_the_hash_is_printed_by_the_last_line(mpich: Mpi, tmp_path: Path) -> None:
    done = mpich.run(0, "-m", "hpcnn.train", JOB, "--set", "train.epochs=1", cwd=tmp_path)
    assert re.fullmatch(r"[0-9a-f]{64}", sha256_of(done.stdout))
