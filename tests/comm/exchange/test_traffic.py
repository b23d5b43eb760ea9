"""What the formulas say of the bytes that an exchange reads and writes, against what it does."""

from __future__ import annotations

from collections import Counter
from threading import get_ident
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpcnn.comm.exchange import buffers, doubling, halving_route, merging
from hpcnn.comm.exchange.choice import DIRECT, HALVING, TRAFFIC, Workload
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.threads import ThreadCommunicator, run_threads

LENGTH = 2**14
OPERATIONS = {"add": 3, "copyto": 2}
"""Of NumPy, and how many arrays they read and write."""


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count the bytes of gradients that operations read and write, by thread."""
    found: Counter[int] = Counter()

    def counting(name: str) -> Any:
        def count(*arrays: Any, **named: Any) -> Any:
            if arrays[0].dtype == np.float32:
                found[get_ident()] += OPERATIONS[name] * arrays[0].nbytes
            return getattr(np, name)(*arrays, **named)

        return count

    numpy = SimpleNamespace(**vars(np) | {name: counting(name) for name in OPERATIONS})
    for module in (buffers, doubling, halving_route, merging):
        monkeypatch.setattr(module, "np", numpy)
    return found


@pytest.mark.parametrize(
    ("algorithm", "hosts", "ranks", "bucket"),
    [
        (HALVING, 2, 1, 0),
        (HALVING, 8, 1, 0),
        (HALVING, 8, 1, LENGTH // 4),
        (HALVING, 4, 2, 0),
        (DIRECT, 2, 1, 0),
        (DIRECT, 2, 1, LENGTH // 4),
        (DIRECT, 1, 2, 0),
    ],
)
def test_what_is_read_and_written(touched: Counter[int], algorithm: str, hosts: int, ranks: int, bucket: int) -> None:
    """Sums of two only: of more, what is in between stays in the cache, which the formulas leave out."""
    host_of_rank = [rank // ranks for rank in range(hosts * ranks)]

    def body(comm: ThreadCommunicator) -> int:
        exchange = comm.exchange(comm.size, LENGTH, np.float32, 4, bucket=bucket)
        exchange.overlap = False
        before = touched[get_ident()]
        exchange.allreduce()
        return touched[get_ident()] - before

    found = run_threads(hosts * ranks, body, host_of_rank=host_of_rank, halving=algorithm == HALVING)
    work = Workload.of(Topology.of(host_of_rank), hosts * ranks, LENGTH, np.float32, 4, {"bucket": bucket})
    moved = TRAFFIC[algorithm](work).moved_bytes
    assert max(found) == pytest.approx(moved, rel=0.01)
