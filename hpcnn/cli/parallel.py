"""Commands that run on several ranks: connecting, one message for one error, the exit code, a job, a trained model."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.backends.choice import choose_backend
from hpcnn.comm.abort import exit_alike
from hpcnn.comm.failure import FailureGuard, limit_exit
from hpcnn.core.stop_request import StopRequest
from hpcnn.system.blas import use_one_thread
from hpcnn.system.output import ERROR, begin_command, end_command, write_line

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.job.schema import Job
    from hpcnn.runs.inference import TrainedModel
    from hpcnn.training.training import Training


def build_job(comm: Communicator, arguments: argparse.Namespace) -> tuple[Job, Training]:
    """Return the job that the arguments of `add_job_arguments` name, and all that its training needs. Collective.

    Raises:
        HpcnnError: on all ranks, if any can't build it.
    """
    from hpcnn.comm.collectives import agree
    from hpcnn.job.load import load_job
    from hpcnn.runs.build import build_training

    loaded = agree(comm, lambda: load_job(arguments.job, arguments.overrides))
    backend = agree(comm, lambda: choose_backend(comm)(loaded.job))
    training = agree(comm, lambda: build_training(loaded.job, loaded.base, comm, backend))
    return training.job, training


def open_run(comm: Communicator, arguments: argparse.Namespace) -> TrainedModel:
    """Return the model that the arguments of `add_run_arguments` name. Collective."""
    from hpcnn.runs.inference import open_on_ranks

    names = arguments.run, arguments.checkpoint, arguments.entry
    return open_on_ranks(comm, *names, backend=arguments.backend, backend_of=choose_backend(comm))


def warn_of_order(comm: Communicator, trained: TrainedModel, path: str | None) -> None:
    """Warn on rank 0 if a file and the training data have named columns that can't be matched."""
    from hpcnn.data.other_files import order_note

    if comm.rank == 0 and path is not None and trained.content is None:
        for note in order_note(path, trained.job.data, Path()):
            write_line(f"warning: {note}", ERROR)


def run_parallel(
    body: Callable[[Communicator], int],
    stop: StopRequest | None = None,
    *,
    is_training: bool = False,
    stall_abort_s: Callable[[], float] = float,
) -> int:
    """Connect, run `body` and return the exit code. An error on any rank ends the whole job with one message.

    Args:
        body: the command; takes the communicator and returns the exit code.
        stop: receives signals from here to the end, so that they don't change the exit code of finished work.
        is_training: continue even if output can't be written.
        stall_abort_s: returns the seconds after which a rank without progress ends the job; 0 is never.
    """
    begin_command(continues=is_training)
    guard = FailureGuard(in_words=True)
    guard.install()
    try:
        stop = stop or StopRequest()
        stop.listen(guard.leave)
        use_one_thread()
        from hpcnn.comm.connect import connect
        from hpcnn.comm.supervision.watched_rank import watched_rank
        from hpcnn.core import faults

        watched_rank.limit(stall_abort_s())
        guard.comm = comm = connect()
        stop.reinstall()
        faults.start(comm.broadcast(os.environ.get(faults.VARIABLE, "")), comm.rank, comm.size, comm.activity)
        exit_code = end_command(body(comm))
        with suppress(Exception):  # a rank that is lost now loses no work
            comm.barrier()  # the time limit of the exit starts when rank 0 has written everything
    except BaseException as error:
        return guard.fail(error)
    if exit_code:
        exit_alike(exit_code)
    limit_exit()
    return exit_code
