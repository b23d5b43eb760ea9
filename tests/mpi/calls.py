"""What tests have the ranks of `tests/mpi/rank_server.py` do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hpcnn.comm.protocol import Communicator


def train(comm: Communicator, job: Path, settings: list[str], out: Path, resume: str) -> int:
    """Train a job as the command does, and return its exit code."""
    from hpcnn.comm.collectives import agree
    from hpcnn.runs import session
    from hpcnn.runs.resumed_job import load_start_job

    loaded = agree(comm, lambda: load_start_job(job, settings, out, resume))
    return session.train(loaded, comm, out=out, resume=resume).exit_code


def sum_of_ranks(comm: Communicator, environment: str = "") -> tuple[int, str | None, str]:
    """Return the sum of all ranks, a variable of the environment, and the working folder."""
    os.write(1, f"rank {comm.rank} of {comm.size}\n".encode())
    return sum(comm.allgather(comm.rank)), os.environ.get(environment), str(Path.cwd())


def go_wrong(comm: Communicator, way: str) -> Any:
    """Go wrong on the last rank, while the others wait for it."""
    if comm.rank == comm.size - 1:
        if way == "raise":
            raise ZeroDivisionError("out of luck")
        if way == "die":
            os._exit(3)
        time.sleep(600)
    return comm.allgather(comm.rank)
