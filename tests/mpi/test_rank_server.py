"""The ranks that serve the other tests: each call stands alone, and one that goes wrong is told and spoils no other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcnn.comm.protocol import Communicator
from tests.mpi.launch import Mpi
from tests.mpi.rank_server import RankServer


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


@pytest.fixture
def server(mpi: Mpi, tmp_path: Path) -> Iterator[RankServer]:
    with RankServer(mpi, 3, tmp_path) as made:
        yield made


def test_calls_on_some_of_the_ranks(server: RankServer, tmp_path: Path) -> None:
    """Each with an environment, a folder and output of its own; a call that goes wrong ends with a report."""
    for ranks, total in ((2, 1), (3, 3), (1, 0), (0, 0)):
        answers = server.call(ranks, f"{__name__}:sum_of_ranks", "NEW", cwd=tmp_path, environment={"NEW": "x" * ranks})
        assert [answer.value for answer in answers] == [(total, "x" * ranks, str(tmp_path))] * max(ranks, 1)
        size = max(ranks, 1)
        assert [answer.output for answer in answers] == [f"rank {rank} of {size}\n" for rank in range(size)]
    assert server.call(1, f"{__name__}:sum_of_ranks", "NEW", cwd=Path("/"))[0].value == (0, None, "/")
    assert server.starts == 1


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("raise", ["rank 0: no answer", "rank 2: Traceback", "ZeroDivisionError: out of luck"]),
        ("die", ["rank 0: no answer", "rank 2: no answer"]),
        ("hang", ["rank 2: no answer", "Timeout (", "in go_wrong"]),
    ],
)
def test_a_call_that_goes_wrong(mpich: Mpi, tmp_path: Path, way: str, said: list[str]) -> None:
    """It fails its test, with what each rank says; the next call has ranks that nothing happened to."""
    with RankServer(mpich, 3, tmp_path) as server:
        with pytest.raises(pytest.fail.Exception, match="go_wrong on 3 ranks of mpich") as caught:
            server.call(3, f"{__name__}:go_wrong", way, cwd=tmp_path, timeout_s=2 if way == "hang" else 60)
        assert [text for text in said if text not in str(caught.value)] == [], str(caught.value)
        assert [answer.value[0] for answer in server.call(3, f"{__name__}:sum_of_ranks", cwd=tmp_path)] == [3, 3, 3]
        assert server.starts == 2
