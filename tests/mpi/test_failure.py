"""One rank fails, the job ends: in seconds, with a code that is not 0, and the rank and host named."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hpcnn.comm.exchange.choice import CHOICE, HALVING
from hpcnn.comm.mpi import SHARING
from tests.mpi.launch import ROOT, Mpi
from tests.timing import WAIT_S, check_in_time

pytestmark = pytest.mark.timed

JOB = ROOT / "jobs" / "digits_mlp.toml"
ENDED_WITHIN_S = 10.0

PROGRAM = """
import atexit, ctypes, importlib, os, pathlib, sys, threading, time
from hpcnn.comm.launcher import detect_launch

def fail():
    if detect_launch().rank == {rank}:
        pathlib.Path("failed").write_text(str(time.time()))
        {way}

def fail_in_call(module, name, call):
    owner, name = importlib.import_module("hpcnn." + module), name.split(".")
    while len(name) > 1:
        owner = getattr(owner, name.pop(0))
    original, calls = getattr(owner, name[0]), 0
    def failing(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == call:
            fail()
        return original(*arguments, **options)
    setattr(owner, name[0], failing)

def fail_at_exit():
    from hpcnn.training.loop import TrainingLoop
    run = TrainingLoop.run
    def later(self):
        atexit.register(fail)  # after MPI's own end, so that it comes before that
        return run(self)
    TrainingLoop.run = later

def in_thread(action):
    thread = threading.Thread(target=action, name="reader")
    thread.start()
    thread.join()

{when}
from hpcnn.train import main
sys.exit(main([{job!r}, "--out", "run", "--quiet", "--set", "train.epochs=2"]))
"""
WAYS = {
    "exception": ("1 / 0", "ZeroDivisionError: division by zero"),
    "exit": ("sys.exit(0)", "sys.exit(0) was called"),
    "hard exit": ("os._exit(0)", "os._exit(0) was called"),
    "thread": ("in_thread(lambda: 1 / 0)", "in thread 'reader'"),
}
"""What goes wrong, and a part of the report."""
PLACES = {
    "before MPI": ("fail_in_call('comm.connect', '_connect_mpi', 1)", "connecting"),
    "connecting": ("fail_in_call('comm.mpi', 'MpiCommunicator.__init__', 1)", "connecting"),
    "set-up": ("fail_in_call('data.samples', 'Samples.__len__', 1)", "phase set-up"),
    "step": ("fail_in_call('training.loader', 'ShardLoader.shards', 2)", r"phase data, step 2 \(epoch 1\)"),
    "halving": ("fail_in_call('comm.exchange.halving_route', 'HalvingRoute.gather', 3)", "phase reduce"),
    "evaluation": (
        "fail_in_call('training.model', 'Model.eval_piece', 1)",
        r"phase evaluate, step 23 \(epoch 1\)",
    ),
    "save": ("fail_in_call('runs.checkpoints.saver', 'Saver.__call__', 1)", r"phase save, step 23 \(epoch 1\)"),
    "exit": ("fail_at_exit()", r"phase \w+, step 46 \(epoch 2\)"),
}
"""Where in the run, and how the report says it."""


def run_failing(
    mpi: Mpi, folder: Path, place: str, way: str, rank: int = 1, *, environment: dict[str, str] | None = None
) -> tuple[int, str, float]:
    """Run on two ranks, one of which fails; return the exit code, the error output, and the seconds after it failed.

    On more ranks with an `environment` that forces an exchange between them.
    """
    program = PROGRAM.format(job=str(JOB), when=PLACES[place][0], way=way, rank=rank)
    (folder / "program.py").write_text(program)
    done = mpi.run(3 if environment else 2, "program.py", cwd=folder, environment=environment)
    assert (folder / "failed").exists(), f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.returncode, done.stderr, time.time() - float((folder / "failed").read_text())


def check_one_rank_fails(mpi: Mpi, folder: Path, place: str, way: str, rank: int) -> None:
    exit_code, said, seconds = run_failing(mpi, folder, place, WAYS[way][0], rank)
    assert exit_code != 0, said
    reports = re.findall(r"hpcnn: error: (rank \d+) on \S+, (.*?): .*", said)
    assert len(reports) == 1, said
    assert reports[0][0] == f"rank {rank}"
    assert re.fullmatch(PLACES[place][1], reports[0][1]), said
    assert WAYS[way][1] in said
    assert "program.py" in said  # the stack
    check_in_time(seconds, ENDED_WITHIN_S)


@pytest.mark.parametrize("place", [place for place in PLACES if place != "halving"])
def test_an_exception_on_one_rank(mpi: Mpi, tmp_path: Path, place: str) -> None:
    check_one_rank_fails(mpi, tmp_path, place, "exception", 1)


@pytest.mark.parametrize("place", ["before MPI", "set-up", "step", "save"])
def test_an_exception_on_rank_0(mpich: Mpi, tmp_path: Path, place: str) -> None:
    check_one_rank_fails(mpich, tmp_path, place, "exception", 0)


@pytest.mark.parametrize("place", ["before MPI", "step", "exit"])
@pytest.mark.parametrize("way", ["exit", "hard exit", "thread"])
def test_other_ways_to_fail(mpich: Mpi, tmp_path: Path, place: str, way: str) -> None:
    check_one_rank_fails(mpich, tmp_path, place, way, 1)


def test_a_hard_exit_under_open_mpi(open_mpi: Mpi, tmp_path: Path) -> None:
    check_one_rank_fails(open_mpi, tmp_path, "exit", "hard exit", 1)


@pytest.mark.parametrize("place", ["before MPI", "step", "exit"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_rank_that_can_say_nothing(mpi: Mpi, tmp_path: Path, place: str, number: signal.Signals) -> None:
    """Its launcher says what killed it; Python writes the stack of a segmentation fault."""
    way = "ctypes.string_at(0)" if number == signal.SIGSEGV else f"os.kill(os.getpid(), {int(number)})"
    exit_code, said, seconds = run_failing(mpi, tmp_path, place, way)
    assert exit_code in (number, 128 + number), said
    assert ("Fatal Python error: Segmentation fault" in said) == (number == signal.SIGSEGV)
    check_in_time(seconds, ENDED_WITHIN_S)


def test_a_rank_that_is_killed_in_an_exchange_by_halving(mpi: Mpi, tmp_path: Path) -> None:
    """As in the third step: the others wait in a round, for it or for one that waits for it."""
    environment = {SHARING: "off", CHOICE: HALVING}
    exit_code, said, seconds = run_failing(
        mpi, tmp_path, "halving", f"os.kill(os.getpid(), {int(signal.SIGKILL)})", environment=environment
    )
    assert exit_code in (signal.SIGKILL, 128 + signal.SIGKILL), said
    check_in_time(seconds, ENDED_WITHIN_S)


def test_what_all_ranks_raise_is_said_once(mpi: Mpi, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "from hpcnn.training.loop import TrainingLoop\n"
        "TrainingLoop.run = lambda self: 1 / 0\n"
        "from hpcnn.train import main\n"
        "sys.exit(main([]))\n"
    )
    done = mpi.run(3, "program.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("hpcnn: error: rank 0 on ") == done.stderr.count("hpcnn: error:") == 1, done.stderr


def test_a_rank_that_never_comes_is_not_waited_for_without_end(mpi: Mpi, tmp_path: Path) -> None:
    """MPICH's mpirun takes a rank that ends before hpcnn was there for one that has done its work."""
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "from hpcnn.comm import connect, launcher\n"
        "if launcher.detect_launch().rank == 1:\n"
        "    sys.exit(0)\n"
        "connect._INIT_S = 2.0\n"
        "from hpcnn.train import main\n"
        "sys.exit(main([]))\n"
    )
    begin = time.monotonic()
    done = mpi.run(2, "program.py", cwd=tmp_path)
    assert done.returncode != 0
    check_in_time(time.monotonic() - begin, ENDED_WITHIN_S)


def test_a_rank_that_does_not_exit_keeps_no_job_alive(mpi: Mpi, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys, threading, time\n"
        "from hpcnn.comm import failure, launcher\n"
        "failure._EXIT_S = 2.0\n"
        "if launcher.detect_launch().rank == 1:\n"
        "    threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "from hpcnn.train import main\n"
        "sys.exit(main(['--quiet', '--out', 'run', '--set', 'train.epochs=1']))\n"
    )
    done = mpi.run(2, "program.py", cwd=tmp_path)
    assert done.returncode != 0
    assert "Timeout (0:00:02)!" in done.stderr
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize("launcher", ["mpich", "openmpi"])
def test_launcher_of_another_mpi(mpich: Mpi, open_mpi: Mpi, tmp_path: Path, launcher: str) -> None:
    """Every rank would be 0 of 1, or abort within MPI_Init: refused before that, said by one, with the way out."""
    mpi, other = (mpich, open_mpi) if launcher == "mpich" else (open_mpi, mpich)
    begin = time.monotonic()
    done = subprocess.run(
        [mpi.mpirun, "-n", "2", other.python, "-m", "hpcnn.train"],
        cwd=tmp_path,
        env=mpi.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    seconds = time.monotonic() - begin
    assert done.returncode == 2, done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith("hpcnn: error:")]
    assert len(messages) == 1, done.stderr
    for part in ("started 2 processes", "Open MPI" if launcher == "mpich" else "MPICH", "mpirun", "srun --mpi=pmix"):
        assert part in messages[0]
    assert not (tmp_path / "runs").exists()
    check_in_time(seconds, 5)


def test_launcher_without_mpi4py(mpich: Mpi, tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ModuleNotFoundError(\"No module named 'mpi4py'\", name='mpi4py')\n")
    done = mpich.run(2, "-m", "hpcnn.train", cwd=tmp_path, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.returncode == 2
    (message,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert "mpi4py" in message
    assert "pip install 'hpcnn[mpi]'" in message


def test_one_rank_needs_no_mpi(mpich: Mpi, tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ModuleNotFoundError(\"No module named 'mpi4py'\", name='mpi4py')\n")
    options = ("--quiet", "--set", "train.epochs=1")
    done = mpich.run(0, "-m", "hpcnn.train", *options, cwd=tmp_path, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.returncode == 0, done.stderr


NAN_PROGRAM = """
import sys
from hpcnn.comm.launcher import detect_launch
from hpcnn.training.loader import ShardLoader
sound, epochs = ShardLoader.shards, 0
def start_epoch(self, epoch, *arguments, start=ShardLoader.start_epoch):
    global epochs
    epochs = epoch
    start(self, epoch, *arguments)
def poisoned(self, step, first, stop):
    shards = sound(self, step, first, stop)
    if epochs == 1 and step == 4 and first <= 5 < stop:
        shards.x[shards.starts[5 - first] - shards.starts[0]] = float("nan")
    return shards
ShardLoader.start_epoch, ShardLoader.shards = start_epoch, poisoned
from hpcnn.train import main
sys.exit(main([{job!r}, "--out", "run", "--quiet", "--set", "run.checkpoint_gap_s=0"]))
"""


@pytest.mark.parametrize(("ranks", "at_fault"), [(0, 0), (3, 2)])
def test_a_loss_that_is_not_finite(mpich: Mpi, tmp_path: Path, ranks: int, at_fault: int) -> None:
    """Step, rank and layer are named; the last good checkpoint stays and is gone on from."""
    (tmp_path / "program.py").write_text(NAN_PROGRAM.format(job=str(JOB)))
    done = mpich.run(ranks, "program.py", cwd=tmp_path)
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert f"step 28 (epoch 2), rank {at_fault} on " in message
    assert "layer 'flatten_1' (shard 5)" in message
    options = ("--out", "run", "--resume", "auto", "--quiet", "--set", "run.stop_at_step=30")
    resumed = mpich.run(2, "-m", "hpcnn.train", JOB, *options, cwd=tmp_path)
    assert resumed.returncode == 75, resumed.stderr


DRIFT_PROGRAM = """
import sys
from hpcnn.comm.launcher import detect_launch
from hpcnn.training.replica import Replica
step = Replica.train_step
def drifting(self, *arguments, **options):
    sums = step(self, *arguments, **options)
    if detect_launch().rank == 1:
        self.model.vector[7] += 1e-4
    return sums
Replica.train_step = drifting
from hpcnn.train import main
sys.exit(main([{job!r}, "--out", "run", "--quiet", "--set", "train.epochs=1", "--set", "{sharding}"]))
"""


def test_replicas_that_drift_apart_are_found(mpich: Mpi, tmp_path: Path) -> None:
    """A bit flipped in one rank's memory must not end as a result, where the ranks have replicas to compare."""
    sharding = "train.optimizer_sharding=false"
    (tmp_path / "program.py").write_text(DRIFT_PROGRAM.format(job=str(JOB), sharding=sharding))
    done = mpich.run(3, "program.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "ended with other weights" in done.stderr
    assert "or the model's own code changes weights" in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()
