"""The plan of an exchange: pure arithmetic, so that every rank's part can be laid beside all others'."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.comm.exchange.plan import BucketPlan, Topology, buckets, check_shards, cut, plan_bucket
from hpcnn.core.tree import maximal_subtrees
from hpcnn.errors import CommunicatorError

few = settings(max_examples=60, deadline=None)
grains = st.sampled_from([1, 7, 16, 8192])
lengths = st.one_of(st.integers(1, 40), st.integers(1, 100_000))

LAYOUTS = {
    "one rank": [0],
    "one node": [0, 0, 0, 0],
    "2 x 2": [0, 0, 1, 1],
    "2 x 2 cyclic": [0, 1, 0, 1],
    "1 + 3": [0, 1, 1, 1],
    "3 + 1": [0, 0, 0, 1],
    "1 + 1 + 1 + 1": [0, 1, 2, 3],
    "4 x 5 cyclic": [0, 1, 2, 3] * 5,
    "5 + 2 + 1 + 4 in no order": [2, 0, 0, 3, 1, 3, 0, 3, 0, 1, 3, 0],
}


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """1 to 4 hosts of 1 to 5 ranks each, numbered in any way."""
    counts = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    return Topology.of(draw(st.permutations([host for host, count in enumerate(counts) for _ in range(count)])))


def plans_of(topology: Topology, bounds: tuple[int, int], alignment: int) -> dict[int, BucketPlan]:
    return {rank: plan_bucket(topology, rank, bounds, alignment) for rank in topology.order}


def whole_grains(bounds: tuple[int, int], alignment: int) -> int:
    return -(-bounds[1] // alignment) - bounds[0] // alignment


@given(host_of_rank=st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_topology_has_hosts_by_their_first_rank_and_ranks_ascending(host_of_rank: list[int]) -> None:
    topology = Topology.of(host_of_rank)
    assert sorted(topology.order) == list(range(len(host_of_rank)))
    assert [ranks[0] for ranks in topology.hosts] == sorted(ranks[0] for ranks in topology.hosts)
    for number, ranks in enumerate(topology.hosts):
        assert list(ranks) == sorted(ranks)
        assert len({host_of_rank[rank] for rank in ranks}) == 1
        assert [topology.host_of(rank) for rank in ranks] == [number] * len(ranks)
        assert topology.order[topology.starts[number] : topology.starts[number + 1]] == ranks
    assert len({host_of_rank[ranks[0]] for ranks in topology.hosts}) == len(topology.hosts)


@few
@given(topology=topologies(), more=st.integers(0, 40))
def test_shards_are_dealt_by_position_and_lie_side_by_side_in_a_host(topology: Topology, more: int) -> None:
    shards = len(topology.order) + more
    by_position = [
        [leaf for owned in topology.rank_subtrees(shards, rank) for leaf in range(*owned)] for rank in topology.order
    ]
    assert [leaf for own in by_position for leaf in own] == list(range(shards))
    assert all(by_position)
    for number in range(len(topology.hosts)):
        own = [leaf for leaves in by_position[topology.starts[number] : topology.starts[number + 1]] for leaf in leaves]
        assert topology.host_subtrees(shards, number) == maximal_subtrees(shards, (own[0], own[-1] + 1))


@few
@given(length=lengths, start=st.integers(0, 9999), parts=st.integers(1, 20), alignment=grains)
def test_cuts_cover_a_range_once_at_multiples_of_the_grain_and_evenly(
    length: int, start: int, parts: int, alignment: int
) -> None:
    bounds = (start, start + length)
    ranges = cut(bounds, parts, alignment)
    assert len(ranges) == parts
    marks = [bounds[0], *(stop for _, stop in ranges)]
    assert [lo for lo, _ in ranges] == marks[:-1]
    assert marks[-1] == bounds[1]
    assert marks == sorted(marks)
    assert all(mark % alignment == 0 for mark in marks if mark not in bounds)
    sizes = [whole_grains(each, alignment) if each[0] < each[1] else 0 for each in ranges]
    assert max(sizes) - min(sizes) <= 1


@few
@given(length=lengths, size=st.one_of(st.just(0), st.integers(1, 200_000)), alignment=grains)
def test_buckets_cover_the_vector_once_from_its_end(length: int, size: int, alignment: int) -> None:
    ranges = buckets(length, size, alignment)
    assert ranges[0][1] == length
    assert ranges[-1][0] == 0
    assert all(later[1] == earlier[0] for earlier, later in pairwise(ranges))
    assert all(start < stop and start % alignment == 0 for start, stop in ranges)
    assert size or ranges == [(0, length)]
    if size >= alignment:
        assert max(stop - start for start, stop in ranges) <= 2 * size + alignment


@few
@given(topology=topologies(), length=lengths, count=st.integers(1, 4), alignment=grains)
def test_pieces_cover_the_vector_once(topology: Topology, length: int, count: int, alignment: int) -> None:
    for bounds in buckets(length, -(-length // count), alignment):
        partitions = [plan_bucket(topology, rank, bounds, alignment).own for rank in topology.order]
        assert partitions == cut(bounds, len(topology.order), alignment)  # cut covers its range once


def check_messages(topology: Topology, bounds: tuple[int, int], alignment: int) -> None:
    """What is sent is what is received, in the same order between each two ranks, and all that a sum needs arrives."""
    plans = plans_of(topology, bounds, alignment)
    for receiver, plan in plans.items():
        for host, ranks in enumerate(topology.hosts):
            sent = {
                rank: [(s.start, s.stop) for s in plans[rank].relayed if s.rank == receiver]
                for rank in ranks
                if host != topology.host_of(receiver)
            }
            received: dict[int, list[tuple[int, int]]] = {rank: [] for rank in sent}
            for span in plan.incoming[host]:
                received[span.rank].append((span.start, span.stop))
            assert received == sent
            if sent:  # the partition arrives whole, each entry from one rank of the host
                spans = sorted(span for own in sent.values() for span in own)
                covered = [entry for start, stop in spans for entry in (start, stop)]
                inner = covered[1:-1]
                assert inner[::2] == inner[1::2]
                assert (covered[0], covered[-1]) == plan.own if covered else plan.own[0] == plan.own[1]
                assert all(start < stop for start, stop in spans)
    assert all(span.rank in plans for plan in plans.values() for span in plan.relayed)


@few
@given(topology=topologies(), length=lengths, count=st.integers(1, 4), alignment=grains)
def test_what_is_sent_is_what_is_received(topology: Topology, length: int, count: int, alignment: int) -> None:
    for bounds in buckets(length, -(-length // count), alignment):
        check_messages(topology, bounds, alignment)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100, 4096, 100_003])
@pytest.mark.parametrize("host_of_rank", LAYOUTS.values(), ids=LAYOUTS)
def test_what_is_sent_is_what_is_received_in_these_layouts(host_of_rank: list[int], length: int) -> None:
    topology = Topology.of(host_of_rank)
    for bounds in buckets(length, max(1, length // 3), 16):
        check_messages(topology, bounds, 16)


@few
@given(topology=topologies(), length=lengths, alignment=grains)
def test_each_rank_of_a_host_sends_an_even_share(topology: Topology, length: int, alignment: int) -> None:
    """All drive the network: the most and the least that one sends differ by one alignment at most."""
    plans = plans_of(topology, (0, length), alignment)
    for ranks in topology.hosts:
        sizes = [sum(span.stop - span.start for span in plans[rank].relayed) for rank in ranks]
        assert max(sizes) - min(sizes) <= alignment
        own = sum(stop - start for start, stop in (plans[rank].own for rank in ranks))
        assert sum(sizes) == length - own


def test_one_host_sends_nothing() -> None:
    for plan in plans_of(Topology.of([0] * 5), (0, 1000), 16).values():
        assert plan.relayed == ()
        assert plan.incoming == ((),)


@pytest.mark.parametrize("host_of_rank", LAYOUTS.values(), ids=LAYOUTS)
def test_a_vector_of_2_to_the_34_bytes_is_planned_without_its_memory(host_of_rank: list[int]) -> None:
    length = 2**34 // 4 + 5
    topology = Topology.of(host_of_rank)
    tracemalloc.start()
    try:
        for bounds in buckets(length, length // 2, 8192):
            check_messages(topology, bounds, 8192)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    plans = plans_of(topology, (0, length), 8192)
    assert sum(plan.own[1] - plan.own[0] for plan in plans.values()) == length
    foreign = sum(length - sum(plans[rank].own[1] - plans[rank].own[0] for rank in ranks) for ranks in topology.hosts)
    assert sum(span.stop - span.start for plan in plans.values() for span in plan.relayed) == foreign


@pytest.mark.parametrize(
    ("size", "shards", "words"),
    [
        (2, 1, r"2 ranks for 1 gradient shard: .*Start 1 rank, or set train\.shards to 2 or more"),
        (9, 8, r"9 ranks for 8 gradient shards: .*Start 8 ranks or fewer, or set train\.shards to 9 or more"),
    ],
)
def test_more_ranks_than_shards_are_refused(size: int, shards: int, words: str) -> None:
    check_shards(shards, shards)
    with pytest.raises(CommunicatorError, match=words):
        check_shards(shards, size)
