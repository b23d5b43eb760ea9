"""One rank fails, the job ends: in seconds, with a code that is not 0, and the rank and host named."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi

JOB = ROOT / "jobs" / "digits_mlp.toml"
ENDED_WITHIN_S = 10.0

PROGRAM = """
import os, sys
from hpcnn.comm.launcher import detect_launch
from hpcnn.{module} import {name}
original = {name}.{method}
calls = 0
def failing(self, *arguments, **options):
    global calls
    calls += 1
    if detect_launch().rank == {rank} and calls == {call}:
        raise {error}
    return original(self, *arguments, **options)
{name}.{method} = failing
from hpcnn.train import main
sys.exit(main([{job!r}, "--out", "run", "--quiet", "--set", "train.epochs=3"]))
"""
PHASES = {
    "set-up": ("data.samples", "Samples", "__len__", 1),
    "forward": ("training.numpy_replica", "NumpyReplica", "_shard", 7),
    "evaluation": ("training.numpy_replica", "NumpyReplica", "eval_piece", 1),
    "end of an epoch": ("training.trainer", "Trainer", "_checkpoint", 1),
}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("phase", PHASES)
def test_an_exception_on_one_rank(mpi: Mpi, tmp_path: Path, phase: str, rank: int) -> None:
    module, name, method, call = PHASES[phase]
    (tmp_path / "program.py").write_text(
        PROGRAM.format(
            module=module,
            name=name,
            method=method,
            call=call,
            rank=rank,
            job=str(JOB),
            error="ZeroDivisionError('boom')",
        )
    )
    begin = time.monotonic()
    done = mpi.run(2, "program.py", cwd=tmp_path, timeout_s=60)
    assert done.returncode != 0
    assert f"rank {rank} on " in done.stderr
    assert "ZeroDivisionError: boom" in done.stderr
    assert time.monotonic() - begin < ENDED_WITHIN_S + 5  # and the start of the ranks


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
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    messages = [line for line in done.stderr.splitlines() if line.startswith("hpcnn: error:")]
    assert len(messages) == 1, done.stderr
    for part in ("started 2 processes", "Open MPI" if launcher == "mpich" else "MPICH", "mpirun", "srun --mpi=pmix"):
        assert part in messages[0]
    assert not (tmp_path / "runs").exists()
    assert time.monotonic() - begin < 5


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
sound, epochs = ShardLoader.shard, 0
def start_epoch(self, epoch, start=ShardLoader.start_epoch):
    global epochs
    epochs = epoch
    start(self, epoch)
def poisoned(self, step, shard):
    x, y = sound(self, step, shard)
    if epochs == 1 and step == 4 and shard == 5:
        x[0] = float("nan")
    return x, y
ShardLoader.start_epoch, ShardLoader.shard = start_epoch, poisoned
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
from hpcnn.training.numpy_replica import NumpyReplica
step = NumpyReplica.train_step
def drifting(self, *arguments, **options):
    sums = step(self, *arguments, **options)
    if detect_launch().rank == 1:
        self.vector[7] += 1e-4
    return sums
NumpyReplica.train_step = drifting
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
    assert not (tmp_path / "run" / "result.json").exists()
