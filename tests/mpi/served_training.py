"""Trainings on the ranks of a `RankServer`: what a test asks for, and what each rank then does."""

from __future__ import annotations

from pathlib import Path

from hpcnn.comm.protocol import Communicator
from tests.mpi.rank_server import RankServer


def train(
    server: RankServer,
    ranks: int,
    job: Path,
    *settings: str,
    cwd: Path,
    out: Path | None = None,
    resume: str = "never",
    expect: int = 0,
    environment: dict[str, str] | None = None,
) -> str:
    """Train a job as ``hpcnn train --quiet`` does, and return what it prints, which rank 0 alone does."""
    arguments = (job, ["run.display=quiet", *settings], out, resume)
    function = f"{__name__}:train_on_rank"
    answers = server.call(ranks, function, *arguments, cwd=cwd, environment=environment)
    assert [answer.value for answer in answers] == [expect] * max(ranks, 1), answers[0].output
    assert [answer.output for answer in answers[1:]] == [""] * len(answers[1:])
    return answers[0].output


def train_on_rank(comm: Communicator, job: Path, settings: list[str], out: Path | None, resume: str) -> int:
    """Train the job, and return the exit code."""
    from hpcnn.comm.collectives import agree
    from hpcnn.runs import session
    from hpcnn.runs.resumed_job import load_start_job

    loaded = agree(comm, lambda: load_start_job(job, settings, out, resume))
    return session.train(loaded, comm, out=out, resume=resume).exit_code
