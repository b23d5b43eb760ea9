from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.threads import ThreadCommunicator, ThreadLinks, run_threads
from hpcnn.tools.bench import limits
from hpcnn.tools.bench.limits import CopyLimit, WireLimit, copied_bytes, crossing_bytes, wire_messages

SIZE = 1800
LAYOUTS = [[0, 1], [0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 1, 2], [0, 0, 1, 1, 1, 2]]


@pytest.mark.parametrize(("size", "ranks", "copied"), [(1200, 2, 900), (1200, 3, 800), (1200, 4, 750), (4, 2, 3)])
def test_a_copy_moves_as_much_as_the_sum(size: int, ranks: int, copied: int) -> None:
    assert copied_bytes(size, ranks) == copied
    assert 2 * copied == size + size // ranks  # read and written, on either side


def test_the_copy_is_done() -> None:
    limit = CopyLimit(1200, 2)
    limit._source[...] = np.arange(900) % 251
    limit()
    assert (limit._target == np.arange(900) % 251).all()


@pytest.mark.parametrize(("hosts", "crossing"), [(2, 1200), (3, 1600), (4, 1800)])
def test_what_must_cross(hosts: int, crossing: int) -> None:
    assert crossing_bytes(1200, hosts) == crossing


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_host_sends_its_bytes_to_the_next_one(layout: list[int]) -> None:
    topology, crossing = Topology.of(layout), 1200
    sent, received, out = Counter(), Counter(), Counter()
    for rank, host in enumerate(layout):
        sends, receives = wire_messages(topology, rank, crossing)
        sent.update((rank, peer, size) for peer, size in sends)
        received.update((peer, rank, size) for peer, size in receives)
        assert {layout[peer] for peer, _ in sends} == {(host + 1) % len(topology.hosts)}
        assert len({size for _, size in sends}) == 1
        out[host] += sum(size for _, size in sends)
    assert sent == received
    assert set(out.values()) == {crossing}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("longest", [10_000, 100])
def test_the_wire_carries_them_again_and_again(
    monkeypatch: pytest.MonkeyPatch, layout: list[int], longest: int
) -> None:
    monkeypatch.setattr(limits, "MESSAGE", longest)
    topology = Topology.of(layout)
    waiting: list[int] = []

    def body(comm: ThreadCommunicator) -> None:
        limit = WireLimit(SIZE, topology, comm.rank, ThreadLinks(comm._world, comm.rank))
        for _ in range(3):
            limit._transfer.start()
            comm.barrier()
            if comm.rank == 0:
                boxes = comm._world.mail.values()
                waiting.append(sum(box.get().nbytes for box in boxes for _ in range(box.qsize())))
            comm.barrier()
            limit()
        comm.barrier()
        assert all(box.empty() for box in comm._world.mail.values())

    run_threads(len(layout), body, host_of_rank=layout)
    assert waiting == [len(topology.hosts) * crossing_bytes(SIZE, len(topology.hosts))] * 3
