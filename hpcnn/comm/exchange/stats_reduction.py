"""The sum of the stats, which travel beside a vector: short, so that every rank adds them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnn.comm.exchange.buffers import summing
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array
from hpcnn.core.tree import Subtree
from hpcnn.system.memory import aligned_empty


class StatsReduction:
    """The sum of the stats of all ranks; those of other hosts come as the hosts' sums.

    Args:
        place: this rank among the others.
        shards: leaves of the tree.
        local: the stats of the own host's slots.
        local_subtrees: the subtrees of these slots.
        length: entries of the stats.
        tag: of the messages.
    """

    def __init__(
        self,
        place: Place,
        shards: int,
        local: Sequence[Array],
        local_subtrees: Sequence[Subtree],
        length: int,
        tag: int,
    ) -> None:
        topology = place.topology
        host_subtrees = [topology.host_subtrees(shards, host) for host in range(len(topology.hosts))]
        received = [list(np.zeros((len(subtrees), length))) for subtrees in host_subtrees]
        own = [aligned_empty(length, np.float64) for _ in host_subtrees[place.host]]
        """The sums of the own host, to be sent."""
        self._before = [
            step
            for subtree, total in zip(host_subtrees[place.host], own, strict=True)
            for step in summing(total, subtree, local, local_subtrees)
        ]
        self.total = aligned_empty(length, np.float64)
        slots = [local if host == place.host else arrived for host, arrived in enumerate(received)]
        subtrees = [local_subtrees if host == place.host else each for host, each in enumerate(host_subtrees)]
        self._after = summing(
            self.total,
            (0, shards),
            [slot for each in slots for slot in each],
            [subtree for each in subtrees for subtree in each],
        )
        index, count = place.memory.rank, len(topology.hosts[place.host])
        hosts = list(enumerate(topology.hosts))
        others = [*hosts[place.host + 1 :], *hosts[: place.host]]
        self._alone = not others
        self._transfer = place.links.transfer(
            [(rank, total) for _, ranks in others for rank in ranks[index::count] for total in own],
            [(ranks[index % len(ranks)], slot) for host, ranks in others for slot in received[host]],
            tag,
        )

    def reduce(self, *, spin: bool) -> None:
        """Sum the stats of all ranks into `total`."""
        if not self._alone:
            for step in self._before:
                step()
            self._transfer.start()
            self._transfer.wait(spin=spin)
        for step in self._after:
            step()
