"""The exchange of short vectors: its gathering in the memory of a host, and its bits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from hpcnn.comm.exchange.allgather_exchange import AllgatherExchange, HostGather
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.shared_memory import Bytes
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.system.memory import aligned_empty
from tests.comm.exchanges import Case

CASES = [
    Case(5, 1, np.float32, 0),
    Case(8, 100, np.float32, 5),
    Case(13, 77, np.float64, 1),
    Case(64, 9, np.float32, 40),
]


def small(comm: ThreadCommunicator, case: Case) -> AllgatherExchange:
    topology = Topology.of([0] * comm.size)
    make = partial(HostGather, comm._place.memory)
    return AllgatherExchange(topology, comm.rank, make, case.shards, case.length, case.dtype, case.stats)


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_follow_the_tree_at_any_pace(case: Case, ranks: int) -> None:
    """Nobody overwrites what another has not read yet, however far it is ahead."""

    def body(comm: ThreadCommunicator) -> None:
        exchange, random = small(comm, case), np.random.default_rng(comm.rank)
        for turn in range(12):
            if random.random() < 0.3:
                time.sleep(0.002)
            case.fill(exchange.contributions, turn)
            if turn % 2:
                exchange.allreduce()
            else:
                exchange.start(lambda: True)
                exchange.ready(0)
                assert exchange.finish() is True
            vector, stats = case.total(turn)
            assert exchange.vector.tobytes() == vector.tobytes()
            assert exchange.stats.tobytes() == stats.tobytes()

    run_threads(ranks, body)


class ByPosition:
    """A gathering that needs no shared memory."""

    def __init__(self, comm: ThreadCommunicator, topology: Topology, sizes: Sequence[int]) -> None:
        self._comm, self._order = comm, topology.order
        self._size = sizes[self._order.index(comm.rank)]
        self.buffers = [aligned_empty(sum(sizes), np.uint8)]

    def __call__(self, own: Bytes) -> int:
        assert own.size == self._size
        by_rank = self._comm.share(own.copy())
        self.buffers[0][...] = np.concatenate([by_rank[rank] for rank in self._order])
        return 0


@pytest.mark.parametrize("host_of_rank", [[0, 1, 0, 1], [0, 1, 1], [1, 0, 2, 0, 1]], ids=str)
def test_ranks_are_gathered_by_position(host_of_rank: list[int]) -> None:
    """However the launcher numbers them, the shards of a host lie side by side."""
    case, topology = Case(7, 10, np.float32, 1), Topology.of(host_of_rank)

    def body(comm: ThreadCommunicator) -> None:
        make = partial(ByPosition, comm, topology)
        exchange = AllgatherExchange(topology, comm.rank, make, case.shards, case.length, case.dtype, case.stats)
        assert [each.subtree for each in exchange.contributions] == topology.rank_subtrees(case.shards, comm.rank)
        case.fill(exchange.contributions, 0)
        exchange.allreduce()
        vector, stats = case.total(0)
        assert exchange.vector.tobytes() == vector.tobytes()
        assert exchange.stats.tobytes() == stats.tobytes()

    run_threads(len(host_of_rank), body)
