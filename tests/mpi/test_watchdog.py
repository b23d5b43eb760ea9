"""The watchdog on real ranks: a rank that hangs is named in time, the job ends in time, and a slow one is let be."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from tests.mpi import launch
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.nodes import Testbed
from tests.mpi.test_stop import ranks_below
from tests.timing import WAIT_S, check_in_time, wait_until

pytestmark = pytest.mark.timed

JOB = ROOT / "jobs" / "digits_mlp.toml"
WARN_S, ABORT_S = 1.5, 3.0
OPTIONS = ("--quiet", "--set", f"run.stall_warn_s={WARN_S}", "--set", f"run.stall_abort_s={ABORT_S}")
LONG = ("--set", "schedule.name=constant", "--set", "train.epochs=2000")
STALLED, STOPPED = 70, 75


class Job:
    """A started job: what it writes to stderr, and when. Use it in a ``with`` statement."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.lines = process, []
        self.ended_at = 0.0
        self._ranks: set[int] = set()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip("\n")))
            self._ranks |= set(ranks_below(self.process.pid))

    def wait_for(self, text: str) -> None:
        """Wait for a line with that text."""
        self.wait_until(lambda: any(text in line for _, line in self.lines))

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition holds; the job must not end before."""
        wait_until(lambda: condition() or self.process.poll() is not None, self.text)
        assert self.process.poll() is None, self.text()

    def finish(self) -> None:
        """Wait for the end of the job, and of all its ranks."""
        self.process.wait(WAIT_S)
        wait_until(lambda: not any(is_running(rank) for rank in self._ranks), self.text)
        self.ended_at = time.monotonic()

    def find(self, start: str) -> tuple[float, str]:
        """Return the one line that starts so, and when it came; without what another rank had begun to write there."""
        found = [(when, line[line.index(start) :].strip()) for when, line in self.lines if start in line]
        assert len(found) == 1, self.text()
        return found[0]

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def signal_ranks(self, number: signal.Signals) -> None:
        for rank in self._ranks:
            os.kill(rank, number)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def start(mpi: Mpi, ranks: int, cwd: Path, *arguments: str | Path, fault: str = "") -> Job:
    return Job(mpi.start(ranks, *arguments, *LONG, *OPTIONS, cwd=cwd, environment={"HPCNN_FAULT": fault}))


def check_ended(job: Job, hung_at: float) -> str:
    """Check that the job ended in time, and that one rank was named in time; return how."""
    assert job.process.returncode == STALLED, job.text()
    job.find("hpcnn: error: ")
    job.find(f"The job ends, since run.stall_abort_s = {ABORT_S:g}.")
    named_at, named = job.find("hpcnn: warning: ")
    check_times(job, hung_at, named_at)
    return named


def check_times(job: Job, hung_at: float, named_at: float) -> None:
    """Check that both came neither early nor late."""
    assert named_at - hung_at > WARN_S / 2
    assert job.ended_at - hung_at > ABORT_S / 2
    check_in_time(named_at - hung_at, WARN_S + 5)
    check_in_time(job.ended_at - hung_at, ABORT_S + 10)


TRAIN = ("-m", "hpcnn.train", JOB)


@pytest.mark.parametrize(
    ("mpi", "rank", "phase"), [("mpich", 0, "forward"), ("openmpi", 2, "reduce")], indirect=["mpi"]
)
def test_a_rank_that_hangs_is_named_with_its_stacks(mpi: Mpi, tmp_path: Path, rank: int, phase: str) -> None:
    with start(mpi, 3, tmp_path, *TRAIN, fault=f"hang rank={rank} step=20 phase={phase}") as job:
        job.finish()
    named = check_ended(job, job.find("hpcnn: fault injected")[0])
    what = rf"rank {rank} on {socket.gethostname()} has made no progress for \d s: phase {phase}, step 20 \(epoch 1\)"
    assert re.fullmatch(f"hpcnn: warning: {what}", named)
    assert re.fullmatch(f"hpcnn: error: {what}", job.find("hpcnn: error: ")[1])
    lines = [line for _, line in job.lines]
    stack = lines[next(place for place, line in enumerate(lines) if named in line) + 1 :]
    assert stack[0].startswith("MainThread ")
    assert "faults.py" in stack[1]
    assert any("in _train_step" in line for line in stack)


IN_MPI = """
import sys
from hpcnn.comm.launcher import detect_launch
from hpcnn.training.loader import ShardLoader
sound = ShardLoader.shards
def hanging(self, step, first, stop):
    if detect_launch().rank == 1 and step == 5:
        from mpi4py import MPI
        {enter}
        print("hung", file=sys.stderr, flush=True)
        MPI.COMM_SELF.recv()
    return sound(self, step, first, stop)
ShardLoader.shards = hanging
from hpcnn.runs.session import Watchdog
class Watching(Watchdog):
    def __init__(self, comm, **options):
        global activity
        activity = comm.activity
        super().__init__(comm, **options)
import hpcnn.runs.session
hpcnn.runs.session.Watchdog = Watching
from hpcnn.train import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_rank_that_hangs_within_mpi(mpi: Mpi, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(IN_MPI.format(enter=""))
    with start(mpi, 2, tmp_path, "program.py", JOB) as job:
        job.finish()
    named = check_ended(job, job.find("hung")[0])
    assert named.startswith(f"hpcnn: warning: rank 1 on {socket.gethostname()} has made no progress for ")
    assert named.endswith("phase data, step 6 (epoch 1)")
    assert "in hanging" in job.text()


def test_all_wait_for_one_another(mpi: Mpi, tmp_path: Path) -> None:
    """As when a message is lost: nobody is to blame, and everybody says where it is."""
    (tmp_path / "program.py").write_text(IN_MPI.format(enter="activity.enter('wait')"))
    with start(mpi, 2, tmp_path, "program.py", JOB) as job:
        job.finish()
    hung_at, host = job.find("hung")[0], socket.gethostname()
    assert job.process.returncode == STALLED, job.text()
    named_at, line = job.find("hpcnn: warning: nobody has made progress for ")
    assert "all ranks wait for one another" in line
    assert f"\nrank 0 on {host} waits in phase " in job.text()
    job.find(f"hpcnn: warning: rank 1 on {host} waits in phase wait, step 6 (epoch 1)")
    assert "in hanging" in job.text()
    check_times(job, hung_at, named_at)


@pytest.mark.parametrize(("mpi", "rank"), [("mpich", 1), ("openmpi", 0)], indirect=["mpi"])
def test_a_process_that_is_stopped_is_named_by_another(mpi: Mpi, tmp_path: Path, rank: int) -> None:
    # Its neighbour is to hear of a step: all are on their way for longer than several signs of life are apart.
    fault = f"slow rank={rank} step=1-149 phase=data seconds=0.02; stop rank={rank} step=150 phase=data"
    with start(mpi, 3, tmp_path, *TRAIN, fault=fault) as job:
        job.finish()
    named = check_ended(job, job.find(f"hpcnn: fault injected on rank {rank} in phase data, step 150 ")[0])
    assert re.fullmatch(
        rf"hpcnn: warning: rank {rank} on {socket.gethostname()} has given no sign of life for \d s "
        r"\(its process \d+ is stopped\); its last: phase \S+, step \d+ \(epoch \d+\)",
        named,
    )


def test_c_code_that_keeps_the_lock_of_python(mpi: Mpi, tmp_path: Path) -> None:
    """No Python of that rank can run: its neighbour names it, and its stacks are shown even so."""
    with start(mpi, 2, tmp_path, *TRAIN, fault="freeze rank=1 step=20 phase=forward") as job:
        job.finish()
    named = check_ended(job, job.find("hpcnn: fault injected")[0])
    assert named.startswith(f"hpcnn: warning: rank 1 on {socket.gethostname()} has given no sign of life for ")
    job.find("hpcnn: no Python of rank 1 has run for ")
    job.find("Stack (most recent call first):")
    assert "faults.py" in job.text()


@pytest.mark.parametrize("fault", ["hang", "stop"])
def test_the_others_go_on_without_a_rank_that_hangs(tmp_path: Path, fault: str) -> None:
    mpi, job = launch.ulfm(), (*TRAIN, *OPTIONS, "--set", "train.epochs=3", "--set", "train.shards=8")
    plain = mpi.run(0, *job, cwd=tmp_path)
    survivors = ("--set", "run.on_rank_loss=continue", "--out", "survivors")
    done = mpi.run(4, *job, *survivors, cwd=tmp_path, environment={"HPCNN_FAULT": f"{fault} rank=1 step=20"})
    assert done.returncode == 0, done.stderr
    assert f"Rank 1 ends, since run.stall_abort_s = {ABORT_S:g}." in done.stderr
    assert "warning: lost rank 1 " in done.stdout
    assert sha256_of(done.stdout) == sha256_of(plain.stdout)


def test_one_rank_alone(mpich: Mpi, tmp_path: Path) -> None:
    with start(mpich, 0, tmp_path, *TRAIN, fault="hang step=20 phase=optimizer") as job:
        job.finish()
    assert "phase optimizer, step 20 (epoch 1)" in check_ended(job, job.find("hpcnn: fault injected")[0])


def test_a_node_that_falls_silent(testbed: type[Testbed], mpich: Mpi, tmp_path: Path) -> None:
    arguments = (*TRAIN, *LONG, *OPTIONS)
    with testbed(3) as nodes, Job(nodes.start(mpich, [1, 2, 1], *arguments, cwd=tmp_path)) as job:
        metrics = tmp_path / "runs" / "digits_mlp" / "metrics.jsonl"
        job.wait_until(lambda: metrics.exists() and metrics.stat().st_size)
        time.sleep(1)
        nodes.crash("node2", silent=True)
        crashed_at = time.monotonic()
        job.finish()
    named = check_ended(job, crashed_at)
    assert named.startswith("hpcnn: warning: rank 2 on node2 has given no sign of life for ")


SLOW = """
import sys, time
from hpcnn.comm.launcher import detect_launch
from hpcnn.training.loader import PieceLoader, ShardLoader
from hpcnn.training.loop import TrainingLoop
rank, shard, piece, write, seen = detect_launch().rank, ShardLoader.shards, PieceLoader.piece, TrainingLoop._write, []
def slow_shard(self, step, first, stop):
    if rank == 1 and not seen:
        seen.append(step)
        end = time.process_time() + {slow_s}
        while time.process_time() < end:
            pass
    return shard(self, step, first, stop)
def slow_piece(self, i):
    if rank == 0:
        time.sleep({slow_s} / self.pieces)
    return piece(self, i)
def slow_write(self, **options):
    with self._activity.during("save"):
        for _ in range(4 if rank == 0 else 0):
            time.sleep({slow_s} / 4)
            self._activity.enter("save")
    write(self, **options)
ShardLoader.shards, PieceLoader.piece, TrainingLoop._write = slow_shard, slow_piece, slow_write
from hpcnn.train import main
sys.exit(main(sys.argv[1:]))
"""


def test_no_false_alarm(mpi: Mpi, tmp_path: Path) -> None:
    """A first step that computes for long, a long evaluation, a long save: the others wait, and nobody is stuck."""
    (tmp_path / "program.py").write_text(SLOW.format(slow_s=1.7 * WARN_S))
    short = (*OPTIONS, "--set", "train.epochs=1")
    slow = mpi.run(2, "program.py", JOB, *short, cwd=tmp_path)
    assert slow.returncode == 0, slow.stderr
    assert "hpcnn: " not in slow.stderr
    plain = mpi.run(0, "-m", "hpcnn.train", JOB, *short, cwd=tmp_path)
    assert sha256_of(slow.stdout) == sha256_of(plain.stdout)


def test_a_rank_that_gets_on_again(mpich: Mpi, tmp_path: Path) -> None:
    stop = ("--set", "run.stop_at_step=300")
    fault = "stop rank=1 step=150; slow rank=0 step=151-300 phase=data seconds=0.01"
    with start(mpich, 2, tmp_path, *TRAIN, *stop, fault=fault) as job:
        job.wait_for("hpcnn: warning: ")
        job.signal_ranks(signal.SIGCONT)
        job.finish()
    assert job.process.returncode == STOPPED, job.text()
    job.find(f"hpcnn: rank 1 on {socket.gethostname()} is making progress again")
