"""Who adds which part of a vector, and what travels between hosts for it: plain arithmetic, without communication.

The vector is cut into buckets, and each bucket into one partition per rank, which that rank adds up for all of them.
Ranks of one host see each other's vectors. Towards other hosts, each rank takes an even share of what its host has to
send: it adds up its host's vectors there, and sends the sums to the ranks whose partitions they belong to. The owner of
a partition returns the result to the other hosts by the same messages, reversed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from hpcnn.core.tree import Subtree, maximal_subtrees, owned_leaves
from hpcnn.errors import CommunicatorError

Range = tuple[int, int]
"""Entries [start, stop) of the vector."""


@dataclass(frozen=True)
class Span:
    """A part of a partition, and the rank at the other end."""

    rank: int
    start: int
    stop: int


@dataclass(frozen=True)
class Topology:
    """Which ranks share memory: the ranks of each host, ascending, and hosts by their first rank.

    A *position* counts ranks host by host. Shards and partitions are dealt by position, so that the shards of a host
    are neighbours in the tree, however the launcher numbered the ranks.
    """

    hosts: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, host_of_rank: Sequence[object]) -> Topology:
        """Return the topology of ranks whose hosts are named so.

        >>> Topology.of(["a", "b", "a", "b"]).hosts
        ((0, 2), (1, 3))
        """
        hosts: dict[object, list[int]] = {}
        for rank, host in enumerate(host_of_rank):
            hosts.setdefault(host, []).append(rank)
        return cls(tuple(tuple(ranks) for ranks in hosts.values()))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The ranks by position."""
        return tuple(rank for host in self.hosts for rank in host)

    @cached_property
    def positions(self) -> tuple[int, ...]:
        """The position of each rank."""
        positions = [0] * len(self.order)
        for position, rank in enumerate(self.order):
            positions[rank] = position
        return tuple(positions)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The position of each host's first rank, and the number of ranks."""
        return (0, *accumulate(len(host) for host in self.hosts))

    @cached_property
    def lanes(self) -> int:
        """The most ranks that a host has: where sums halve, each lane of the vector is exchanged by one rank a host."""
        return max(map(len, self.hosts))

    def host_of(self, rank: int) -> int:
        """Return the number of the host that `rank` is on."""
        return bisect_right(self.starts, self.positions[rank]) - 1

    def rank_subtrees(self, shards: int, rank: int, groups: int = 1) -> list[Subtree]:
        """Return the subtrees that `rank` contributes, where there are `shards` leaves; see `maximal_subtrees`."""
        size = len(self.order)
        return maximal_subtrees(shards, owned_leaves(shards, size, self.positions[rank]), groups)

    def host_subtrees(self, shards: int, host: int, groups: int = 1) -> list[Subtree]:
        """Return the subtrees that a host's ranks contribute together."""
        return maximal_subtrees(shards, self.host_leaves(shards, host), groups)

    def hosts_subtrees(self, shards: int, hosts: tuple[int, int]) -> list[Subtree]:
        """Return the subtrees of neighbouring hosts [first, end), as few as there can be."""
        return maximal_subtrees(shards, self.leaves_of_hosts(shards, hosts))

    def host_leaves(self, shards: int, host: int) -> Subtree:
        """Return the leaves of a host's ranks."""
        return self.leaves_of_hosts(shards, (host, host + 1))

    def leaves_of_hosts(self, shards: int, hosts: tuple[int, int]) -> Subtree:
        """Return the leaves of the ranks of neighbouring hosts [first, end)."""
        size, first, last = len(self.order), self.starts[hosts[0]], self.starts[hosts[1]] - 1
        # contiguous, since positions are
        return owned_leaves(shards, size, first)[0], owned_leaves(shards, size, last)[1]

    def home_of(self, shards: int, subtree: Subtree) -> int | None:
        """Return the number of the host whose ranks have all leaves of `subtree`, or None."""
        for host in range(len(self.hosts)):
            first, end = self.host_leaves(shards, host)
            if first <= subtree[0] and subtree[1] <= end:
                return host
        return None


def check_shards(shards: int, size: int) -> None:
    """Check that every rank has a shard.

    Raises:
        CommunicatorError: there are more ranks than shards, so that some rank would have nothing to do.
    """
    if size > shards:
        raise CommunicatorError(
            f"{size} ranks for {shards} gradient shard{'s' * (shards != 1)}: each rank needs one shard at least. "
            f"Start {f'{shards} ranks or fewer' if shards > 1 else '1 rank'}, or set train.shards to {size} or more "
            '(that makes it another job, with another result). "auto" follows from the batch, not from the ranks.'
        )


def cut(bounds: Range, parts: int, alignment: int) -> list[Range]:
    """Cut a range into `parts` as even as multiples of `alignment` allow (counted from 0); some may be empty.

    >>> cut((0, 100), 3, 16)
    [(0, 32), (32, 64), (64, 100)]
    """
    return list(pairwise(_mark(bounds, parts, alignment, number) for number in range(parts + 1)))


def piece(bounds: Range, parts: int, alignment: int, number: int) -> Range:
    """Return one of the ranges of `cut`.

    >>> piece((0, 100), 3, 16, 1)
    (32, 64)
    """
    return _mark(bounds, parts, alignment, number), _mark(bounds, parts, alignment, number + 1)


def _mark(bounds: Range, parts: int, alignment: int, number: int) -> int:
    start, stop = bounds
    first, last = start // alignment, -(-stop // alignment)
    return min(max((first + (last - first) * number // parts) * alignment, start), stop)


def buckets(length: int, size: int, alignment: int) -> list[Range]:
    """Cut a vector into buckets of about `size` entries, in the order in which a backward pass fills them.

    >>> buckets(100, 34, 16)
    [(64, 100), (32, 64), (0, 32)]
    """
    count = max(1, round(length / size)) if size else 1
    return [part for part in cut((0, length), count, alignment) if part[0] < part[1]][::-1] or [(0, length)]


@dataclass(frozen=True)
class BucketPlan:
    """What one rank does for one bucket."""

    bounds: Range
    own: Range
    """The partition that it adds up for all ranks."""
    relayed: tuple[Span, ...]
    """Parts of other hosts' partitions that it adds up for its own host, with the rank each goes to."""
    incoming: tuple[tuple[Span, ...], ...]
    """For each host, the parts of its own partition that come from there, with the rank each comes from."""


def plan_bucket(topology: Topology, rank: int, bounds: Range, alignment: int) -> BucketPlan:
    """Return the part of `rank` in the exchange of one bucket, cut at multiples of `alignment` entries."""
    partitions = cut(bounds, len(topology.order), alignment)
    own_host = topology.host_of(rank)
    own = partitions[topology.positions[rank]]
    local = topology.hosts[own_host].index(rank)
    own_shares = _foreign_shares(topology, own_host, partitions, bounds, alignment)[local]
    # Each host begins with the one after it: if all sent to the same host first, they would wait for its port.
    others = [*range(topology.starts[own_host + 1], len(partitions)), *range(topology.starts[own_host])]
    relayed = [
        Span(topology.order[position], *part)
        for position in others
        for share in own_shares
        if (part := overlap(partitions[position], share)) is not None
    ]
    incoming = [
        tuple(
            Span(peer, *part)
            for peer, shares in zip(ranks, _foreign_shares(topology, host, partitions, bounds, alignment), strict=True)
            for share in shares
            if host != own_host and (part := overlap(own, share)) is not None
        )
        for host, ranks in enumerate(topology.hosts)
    ]
    return BucketPlan(bounds, own, tuple(relayed), tuple(incoming))


def rank_ranges(topology: Topology, bounds: Range, alignment: int) -> dict[int, tuple[Range, list[Range]]]:
    """Return what each rank adds up of one bucket: its partition for all ranks, and parts of others' for its host."""
    partitions = cut(bounds, len(topology.order), alignment)
    shares = [
        share
        for host in range(len(topology.hosts))
        for share in _foreign_shares(topology, host, partitions, bounds, alignment)
    ]
    return dict(zip(topology.order, zip(partitions, shares, strict=True), strict=True))


def _foreign_shares(
    topology: Topology, host: int, partitions: Sequence[Range], bounds: Range, alignment: int
) -> list[list[Range]]:
    """Cut what other hosts' ranks own into one even share for each rank of `host`: at most two ranges each."""
    start, stop = partitions[topology.starts[host]][0], partitions[topology.starts[host + 1] - 1][1]
    gap = stop - start
    shares = cut((bounds[0], bounds[1] - gap), len(topology.hosts[host]), alignment)  # as if the gap were closed
    opened = [[(lo, min(hi, start)), (max(lo, start) + gap, hi + gap)] for lo, hi in shares]
    return [[(lo, hi) for lo, hi in ranges if lo < hi] for ranges in opened]


def overlap(first: Range, second: Range) -> Range | None:
    """Return what two ranges have in common, if anything."""
    lo, hi = max(first[0], second[0]), min(first[1], second[1])
    return (lo, hi) if lo < hi else None
