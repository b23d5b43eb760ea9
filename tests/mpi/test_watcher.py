"""Ranks that die, are stopped or stay away where no watchdog of theirs runs: the job ends, and says why, in seconds."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.mpi.launch import Mpi, mpich, ulfm
from tests.timing import check_in_time

pytestmark = pytest.mark.timed

STALLED = 70
ABORT_S = 3.0
LIMIT_S = 10.0
BEFORE = """
import os, signal, sys, time
from hpcnn.comm.launcher import detect_launch
if detect_launch().rank == 1:
    time.sleep({after_s})
    os.kill(os.getpid(), signal.SIG{name})
from hpcnn.train import main
sys.exit(main(sys.argv[1:]))
"""
"""Rank 1 gets a signal before it connects."""
WITHIN = """
import os, signal, sys
from hpcnn.comm import mpi
from hpcnn.comm.launcher import detect_launch
found = mpi.MpiCommunicator._join
def join(self, world):
    if detect_launch().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    found(self, world)
mpi.MpiCommunicator._join = join
from hpcnn.train import main
sys.exit(main(sys.argv[1:]))
"""
"""Rank 1 dies between MPI_Init and the end of the connecting."""
BEFORE_TRAINING = """
import os, signal, sys
from hpcnn.comm import collectives
found = collectives.agree
def agree(comm, action):
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return found(comm, action)
collectives.agree = agree
from hpcnn.train import main
sys.exit(main(sys.argv[1:]))
"""
"""Rank 1 dies when all are connected, and agree on the job."""
ONLY_RANK_0 = """
import hpcnn
ranks = hpcnn.connect()
if ranks.rank == 0:
    hpcnn.fit(overrides={"run.display": "quiet", "train.epochs": 1, "run.stall_abort_s": 30})
"""
RANK_1_ELSEWHERE = """
import time
import hpcnn
ranks = hpcnn.connect()
if ranks.rank == 0:
    hpcnn.fit(overrides={"run.display": "quiet", "train.epochs": 1, "run.stall_abort_s": 3})
time.sleep(1000)
"""
IN_A_POOL = """
import hpcnn
from mpi4py.futures import MPIPoolExecutor

def task(number):
    return hpcnn.fit(overrides={"train.epochs": 1}).history

if __name__ == "__main__":
    with MPIPoolExecutor() as pool:
        print(pool.submit(task, 1).result())
"""
IN_MPI_FINALIZE = """
import atexit, os, signal
import hpcnn
ranks = hpcnn.connect()
hpcnn.fit(overrides={"run.display": "quiet", "train.epochs": 1, "run.on_rank_loss": "continue"}, out="run")
if ranks.rank == 1:
    atexit.register(os.kill, os.getpid(), signal.SIGKILL)
"""


def run(
    mpi: Mpi, ranks: int, program: str, cwd: Path, *options: str, module: str = ""
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a program, after a module of its interpreter's if need be; return how it ended, and after how long."""
    (cwd / "program.py").write_text(program)
    begin = time.monotonic()
    done = mpi.run(ranks, *(("-m", module) if module else ()), "program.py", *options, cwd=cwd)
    return done, time.monotonic() - begin


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one message of a job that has ended, which is not the code of success or of bad input."""
    assert done.returncode not in (0, 2), f"{done.stdout}\n{done.stderr}"
    lines = [line for line in done.stderr.splitlines() if line.startswith("hpcnn: error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


SETTINGS = ("--quiet", "--out", "run", "--set", f"run.stall_abort_s={ABORT_S:g}")
CONTINUE = ("--set", "run.on_rank_loss=continue")


@pytest.mark.parametrize(
    "program",
    [BEFORE.format(name="KILL", after_s=0), BEFORE.format(name="KILL", after_s=2), WITHIN],
    ids=["at once", "while others are in MPI_Init", "after MPI_Init"],
)
def test_a_death_before_all_are_connected_ends_the_job(tmp_path: Path, program: str) -> None:
    """Also where the launcher lets ranks outlive each other: nothing has begun yet that they could go on with."""
    done, seconds = run(ulfm(), 3, program, tmp_path, *SETTINGS, *CONTINUE)
    told = r"(rank 1|1 of this host's 3 ranks) died before all ranks were connected"
    assert re.search(told, the_error(done)), done.stderr
    assert not (tmp_path / "run").exists()
    check_in_time(seconds, LIMIT_S)


def test_a_death_before_training_is_one_message(tmp_path: Path) -> None:
    """Those that are left all fail for want of it."""
    done, seconds = run(ulfm(), 3, BEFORE_TRAINING, tmp_path, *SETTINGS, *CONTINUE)
    assert re.search(r"rank 1, whose process \d+ is gone, is missed by rank [02]: phase wait", the_error(done)), (
        done.stderr
    )
    check_in_time(seconds, LIMIT_S)


@pytest.mark.parametrize("mpi", ["mpich", "openmpi"], indirect=True)
def test_a_rank_that_is_stopped_before_it_connects(mpi: Mpi, tmp_path: Path) -> None:
    done, seconds = run(mpi, 2, BEFORE.format(name="STOP", after_s=0), tmp_path, *SETTINGS)
    assert re.search(r"rank 1, whose process \d+ is stopped, does not connect", the_error(done)), done.stderr
    assert f"The job ends, since run.stall_abort_s = {ABORT_S:g}." in done.stderr
    check_in_time(seconds, ABORT_S + LIMIT_S)


def test_a_call_of_all_ranks_that_some_do_not_make(mpi: Mpi, tmp_path: Path) -> None:
    """They have come to the end of the program: nobody needs to wait for them."""
    done, seconds = run(mpi, 2, ONLY_RANK_0, tmp_path)
    assert done.returncode == STALLED
    assert "rank 1, which has come to the end of its program, will not come" in the_error(done)
    assert "rank 0 waits for it in vain: phase wait" in the_error(done)
    check_in_time(seconds, LIMIT_S + 3)


def test_a_call_of_all_ranks_that_some_have_not_come_to(tmp_path: Path) -> None:
    """They may come yet, so the setting of the job decides."""
    done, seconds = run(mpich(), 2, RANK_1_ELSEWHERE, tmp_path)
    assert done.returncode == STALLED
    assert "rank 0 has waited for 3 s for others in a call that all ranks are to make" in the_error(done)
    check_in_time(seconds, ABORT_S + LIMIT_S)


def test_workers_of_a_pool_are_no_ranks(tmp_path: Path) -> None:
    done, seconds = run(mpich(), 3, IN_A_POOL, tmp_path, module="mpi4py.futures")
    assert done.returncode != 0
    assert "hpcnn was called in a task of mpi4py.futures, which runs on one of its workers alone" in done.stderr
    check_in_time(seconds, LIMIT_S)


def test_a_death_when_all_is_done(tmp_path: Path) -> None:
    """MPI_Finalize would wait for the dead."""
    done, seconds = run(ulfm(), 3, IN_MPI_FINALIZE, tmp_path)
    assert (tmp_path / "run" / "result.json").exists(), done.stderr
    assert "error" not in done.stderr
    check_in_time(seconds, LIMIT_S + 3)
