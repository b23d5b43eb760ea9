"""Which hosts exchange what in each round of recursive halving: plain arithmetic, without communication.

The hosts form a binary tree that splits [lo, hi) at (lo + hi) // 2. Each subtree is a group. The members of a group
have cut the vector into one piece for each of them, and each has the sums of all shards of the group for its piece.
In a round two groups merge. The members of the larger one become the even members of the merged group, and those of
the smaller one the odd members: then each new piece lies within the old piece of the same member. A member needs from
the other group only the sums for its new piece, which at most two members have, and it sends the rest of its old
piece to at most two. So each entry is sent once in all, in at most ceil(log2 hosts) rounds. Neighbours merge first,
so that sums are formed along the canonical tree.

Returning the results reverses all rounds and messages (recursive doubling).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hpcnn.comm.exchange.plan import Range, Topology, piece

Group = tuple[int, int]
"""The hosts [lo, hi) of a subtree of hosts."""


@dataclass(frozen=True)
class Share:
    """Entries that two hosts exchange in a round."""

    host: int
    """The other one."""
    start: int
    stop: int
    stats: bool
    """Whether the sums of the stats travel with them: they do in one message that a host receives in a round."""


@dataclass(frozen=True)
class Round:
    """What one host does in one round of halving."""

    side: Group
    """The hosts whose sums it has before."""
    other: Group
    """The hosts whose sums it receives."""
    before: Range
    """Its piece of the entries before the round."""
    after: Range
    """Its piece after it, a part of `before`."""
    sends: tuple[Share, ...]
    receives: tuple[Share, ...]

    @property
    def group(self) -> Group:
        """The hosts whose sums it has after the round."""
        return min(self.side[0], self.other[0]), max(self.side[1], self.other[1])


def halving_rounds(hosts: int, host: int, bounds: Range, alignment: int) -> list[Round]:
    """Return what `host` of `hosts` does to sum the entries `bounds`, in pieces cut at multiples of `alignment`.

    >>> for each in halving_rounds(4, 2, (0, 64), 16):
    ...     print(each.group, each.before, each.after, [share.host for share in each.sends])
    (2, 4) (0, 64) (0, 32) [3]
    (0, 4) (0, 32) (16, 32) [0]
    """
    return [_round(side, group, host, bounds, alignment) for side, group in pairwise(groups_of(hosts, host))]


def groups_of(hosts: int, host: int) -> list[Group]:
    """Return the groups that `host` is in, the smallest first.

    >>> groups_of(5, 2)
    [(2, 3), (2, 5), (0, 5)]
    """
    groups = [(0, hosts)]
    while groups[-1][1] - groups[-1][0] > 1:
        groups.append(next(half for half in _halves(groups[-1]) if half[0] <= host < half[1]))
    return groups[::-1]


def home_group(topology: Topology, shards: int, leaves: tuple[int, int]) -> Group:
    """Return the smallest group of hosts whose ranks have all of `leaves`."""
    group = (0, len(topology.hosts))
    while group[1] - group[0] > 1:
        for half in _halves(group):
            first, end = topology.leaves_of_hosts(shards, half)
            if first <= leaves[0] and leaves[1] <= end:
                group = half
                break
        else:
            break
    return group


def member_piece(group: Group, host: int, bounds: Range, alignment: int) -> Range:
    """Return the piece of `bounds` that belongs to `host` as a member of `group`."""
    return piece(bounds, group[1] - group[0], alignment, _member(group, host))


def lanes_of(topology: Topology, rank: int) -> range:
    """Return the numbers of the lanes that `rank` exchanges: one, or several on a host with fewer ranks than others.

    >>> topology = Topology.of(["a", "b", "b", "b"])
    >>> [lanes_of(topology, rank) for rank in range(4)]
    [range(0, 3), range(0, 1), range(1, 2), range(2, 3)]
    """
    ranks, lanes = topology.hosts[topology.host_of(rank)], topology.lanes
    local, count = topology.positions[rank] - topology.positions[ranks[0]], len(ranks)
    return range(-(-local * lanes // count), -(-(local + 1) * lanes // count))


def rank_of_lane(topology: Topology, host: int, lane: int) -> int:
    """Return the rank of `host` that exchanges a lane."""
    ranks = topology.hosts[host]
    return ranks[lane * len(ranks) // topology.lanes]


def _round(side: Group, group: Group, host: int, bounds: Range, alignment: int) -> Round:
    other = next(half for half in _halves(group) if half != side)
    ours, theirs, both = (hi - lo for lo, hi in (side, other, group))
    before, after = _member(side, host), _member(group, host)
    old, new = piece(bounds, ours, alignment, before), piece(bounds, both, alignment, after)
    sources = range(after * theirs // both, -(-(after + 1) * theirs // both))
    targets = range(before * both // ours, -(-(before + 1) * both // ours))
    receives = [
        Share(_host_at(other, number), *_common(new, piece(bounds, theirs, alignment, number)), number == sources[0])
        for number in sources
    ]
    sends = [
        Share(
            _host_at(other, number // 2),
            *_common(old, piece(bounds, both, alignment, number)),
            number * ours // both == before,
        )
        for number in targets
        if number % 2 != after % 2
    ]
    return Round(side, other, old, new, tuple(sends), tuple(receives))


def _halves(group: Group) -> tuple[Group, Group]:
    middle = sum(group) // 2
    return (group[0], middle), (middle, group[1])


def _even_and_odd(group: Group) -> tuple[Group, Group]:
    """Return the larger half of a group, and the other one."""
    left, right = _halves(group)
    return (right, left) if right[1] - right[0] > left[1] - left[0] else (left, right)


def _member(group: Group, host: int) -> int:
    """Return the number of a host among the members of a group."""
    if group[1] - group[0] == 1:
        return 0
    even, odd = _even_and_odd(group)
    if even[0] <= host < even[1]:
        return 2 * _member(even, host)
    return 2 * _member(odd, host) + 1


def _host_at(group: Group, member: int) -> int:
    """Return the host that is a member of that number."""
    while group[1] - group[0] > 1:
        group = _even_and_odd(group)[member % 2]
        member //= 2
    return group[0]


def _common(first: Range, second: Range) -> Range:
    start = max(first[0], second[0])
    return start, max(start, min(first[1], second[1]))
