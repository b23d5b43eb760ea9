from __future__ import annotations

import time

import pytest

from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import CommunicatorError
from tests.timing import check_in_time


@pytest.mark.timed
def test_the_first_error_is_raised_and_the_others_are_released() -> None:
    def body(comm: ThreadCommunicator) -> None:
        if comm.rank == 1:
            raise ZeroDivisionError("on rank 1")
        comm.barrier()

    begin = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="on rank 1"):
        run_threads(3, body, timeout_s=30)
    check_in_time(time.monotonic() - begin, 10)


def test_a_rank_that_does_not_come_is_found() -> None:
    with pytest.raises(CommunicatorError, match="did not reach a collective in time"):
        run_threads(2, lambda comm: comm.barrier() if comm.rank else time.sleep(0.5), timeout_s=0.2)


def test_objects_are_copies() -> None:
    def body(comm: ThreadCommunicator) -> list[list[int]]:
        everyone: list[list[int]] = comm.allgather([comm.rank])
        everyone[0].append(9)
        comm.barrier()
        return everyone

    first, second = run_threads(2, body)
    assert first == second == [[0, 9], [1]]
