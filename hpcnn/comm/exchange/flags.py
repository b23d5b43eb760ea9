"""Whether something holds on every rank: a byte per rank, in memory that the ranks of a host share."""

from __future__ import annotations

from hpcnn.comm.exchange.transport import Place, Transfer


class Flags:
    """One flag per rank, seen by all ranks after `send` and a barrier of the host.

    Args:
        place: this rank among the others.
        tag: of the messages.
    """

    def __init__(self, place: Place, tag: int) -> None:
        self._rank, count = place.rank, len(place.topology.order)
        self._none = bytes(count)
        self._raised = place.memory.allocate_common(count)[:count]
        self._transfer = self._messages(place, tag) if len(place.topology.hosts) > 1 else None

    def _messages(self, place: Place, tag: int) -> Transfer:
        """Return the messages by which each rank's flag goes to one rank of every other host."""
        topology, local = place.topology, place.memory.rank
        others = [*topology.hosts[place.host + 1 :], *topology.hosts[: place.host]]
        own = self._raised[place.rank : place.rank + 1]
        sends = [(ranks[local % len(ranks)], own) for ranks in others]
        count = len(topology.hosts[place.host])
        receives = [
            (rank, self._raised[rank : rank + 1])
            for ranks in others
            for index, rank in enumerate(ranks)
            if index % count == local
        ]
        return place.links.transfer(sends, receives, tag)

    def send(self, ok: bool, *, spin: bool) -> None:
        """Set this rank's flag, and exchange flags with the other hosts."""
        self._raised[self._rank] = not ok
        if self._transfer is not None:
            self._transfer.start()
            self._transfer.wait(spin=spin)

    def all(self) -> bool:
        """Return whether every rank is ok."""
        return self._raised.tobytes() == self._none
