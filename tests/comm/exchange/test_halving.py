"""Recursive halving and doubling: every host's rounds beside all others', and the bits of the direct exchange."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.comm.exchange.halving import Round, halving_rounds, home_group, lanes_of, rank_of_lane
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.protocol import Compression
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from tests.comm.exchanges import Case, sharded, step_of, sum_of

COUNTS = {
    "as many": lambda host: 2,
    "1 2 1 2": lambda host: 1 + host % 2,
    "3 2 1": lambda host: max(1, 3 - host),
}


def check_rounds(hosts: int, length: int, alignment: int) -> None:
    rounds = [halving_rounds(hosts, host, (0, length), alignment) for host in range(hosts)]
    by_group = [{each.group: each for each in own} for own in rounds]
    for host, own in enumerate(rounds):
        assert len(own) <= (hosts - 1).bit_length()
        for each in own:
            check_round(host, each, by_group)
            if hosts & (hosts - 1) == 0:
                assert len(each.sends) == len(each.receives) == 1
        kept = own[-1].after if own else (0, length)
        sent = sum(share.stop - share.start for each in own for share in each.sends)
        assert sent == length - (kept[1] - kept[0])  # each entry leaves once
    if hosts > 1:
        assert sum(own[-1].after[1] - own[-1].after[0] for own in rounds) == length


def check_round(host: int, each: Round, by_group: list[dict[tuple[int, int], Round]]) -> None:
    """At most two messages each way, which are those of the other end; the piece arrives whole; the stats once."""
    assert 1 <= len(each.receives) <= 2
    assert len(each.sends) <= 2
    assert len({share.host for share in (*each.sends, *each.receives)}) <= 4
    for share in each.sends:
        mirrored = [other for other in by_group[share.host][each.group].receives if other.host == host]
        assert [(m.start, m.stop, m.stats) for m in mirrored] == [(share.start, share.stop, share.stats)]
    for share in each.receives:
        assert sum(other.host == host for other in by_group[share.host][each.group].sends) == 1
    assert sum(share.stats for share in each.receives) == 1
    marks = [mark for share in each.receives for mark in (share.start, share.stop) if share.start < share.stop]
    assert marks[1:-1:2] == marks[2:-1:2]
    assert not marks or (marks[0], marks[-1]) == each.after
    if each.after[0] < each.after[1]:
        assert each.before[0] <= each.after[0]
        assert each.after[1] <= each.before[1]


@settings(max_examples=60, deadline=None)
@given(hosts=st.integers(1, 70), length=st.integers(1, 3000), alignment=st.sampled_from([1, 16, 1000]))
def test_each_round_is_the_same_seen_from_both_ends(hosts: int, length: int, alignment: int) -> None:
    check_rounds(hosts, length, alignment)


@settings(max_examples=60, deadline=None)
@given(host_of_rank=st.lists(st.integers(0, 5), min_size=1, max_size=24))
def test_every_rank_has_a_lane_and_every_lane_one_rank_of_each_host(host_of_rank: list[int]) -> None:
    topology = Topology.of(host_of_rank)
    for host, ranks in enumerate(topology.hosts):
        lanes = [lane for rank in ranks for lane in lanes_of(topology, rank)]
        assert lanes == list(range(topology.lanes))
        assert all(lanes_of(topology, rank) for rank in ranks)
        assert [rank_of_lane(topology, host, lane) for lane in lanes] == [
            rank for rank in ranks for _ in lanes_of(topology, rank)
        ]


def test_the_smallest_group_that_has_all_leaves() -> None:
    topology = Topology.of([0, 1, 2, 3])
    assert [home_group(topology, 8, leaves) for leaves in ((0, 2), (0, 4), (3, 5), (4, 8))] == [
        (0, 1),
        (0, 2),
        (0, 4),
        (2, 4),
    ]


def weights_after_two_steps(comm: ThreadCommunicator, case: Case, compression: Compression | None) -> bytes:
    target = comm.host_array(case.length, case.dtype, shared=True)
    exchange = comm.sharded_exchange(
        case.shards, target, case.length, case.stats, bucket=case.length // 2, compression=compression
    )

    def update(part: int) -> None:
        target.array[exchange.parts[part]] -= sum_of(exchange, part, case.dtype)

    for turn in range(2):
        exchange.start(step_of(exchange, update))
        case.fill(exchange.contributions, turn)
        assert exchange.finish() is True
        assert exchange.stats.tobytes() == case.total(turn)[1].tobytes()
    return target.array.tobytes()


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("hosts", range(2, 10))
def test_bits_are_those_of_the_direct_exchange(hosts: int, count: Callable[[int], int]) -> None:
    host_of_rank = [host for host in range(hosts) for _ in range(count(host))]
    ranks = len(host_of_rank)
    for shards, compression in ((ranks, None), (ranks + 5, None), (2 * ranks + 1, Compression("bf16", 4))):
        case = Case(shards, 200, np.float32, 3)
        results = {
            result
            for halving in (False, True)
            for result in run_threads(
                ranks,
                lambda comm, case=case, compression=compression: weights_after_two_steps(comm, case, compression),
                host_of_rank=host_of_rank,
                halving=halving,
            )
        }
        assert len(results) == 1


@pytest.mark.parametrize("hosts", [2, 3, 5, 8])
def test_a_flag_of_any_rank_reaches_all_though_the_vector_is_shorter_than_the_hosts(hosts: int) -> None:
    host_of_rank = [host for host in range(hosts) for _ in range(1 + host % 2)]
    case = Case(len(host_of_rank), 1, np.float32, 0)

    def body(comm: ThreadCommunicator) -> None:
        exchange, _ = sharded(comm, case)
        for culprit in (*range(comm.size), None):

            def step(culprit=culprit) -> bool:
                for bucket in exchange.buckets():
                    bucket.send()
                return exchange.complete(comm.rank != culprit)

            exchange.start(step)
            assert exchange.finish() is (culprit is None)

    run_threads(len(host_of_rank), body, host_of_rank=host_of_rank, halving=True)
