"""The sums that travel beside a vector: short, so that every rank adds them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnn.comm.exchange.buffers import summing
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.protocol import Array
from hpcnn.core.tree import Node
from hpcnn.system.memory import aligned_empty


class Tails:
    """The sum of the tails of all ranks; those of other nodes come as the nodes' sums.

    Args:
        place: this rank among the others.
        shards: leaves of the tree.
        local: the tails of the own node's slots.
        local_nodes: the tree nodes of these slots.
        length: entries of a tail.
        tag: of the messages.
    """

    def __init__(
        self, place: Place, shards: int, local: Sequence[Array], local_nodes: Sequence[Node], length: int, tag: int
    ) -> None:
        topology = place.topology
        node_nodes = [topology.node_nodes(shards, node) for node in range(len(topology.nodes))]
        received = [list(np.zeros((len(nodes), length))) for nodes in node_nodes]
        own = [aligned_empty(length, np.float64) for _ in node_nodes[place.node]]
        """The sums of the own node, to be sent."""
        self._before = [
            step
            for node, total in zip(node_nodes[place.node], own, strict=True)
            for step in summing(total, node, local, local_nodes)
        ]
        self.total = aligned_empty(length, np.float64)
        slots = [local if node == place.node else arrived for node, arrived in enumerate(received)]
        nodes = [local_nodes if node == place.node else each for node, each in enumerate(node_nodes)]
        self._after = summing(
            self.total,
            (0, shards),
            [slot for each in slots for slot in each],
            [node for each in nodes for node in each],
        )
        index, count = place.memory.rank, len(topology.nodes[place.node])
        others = [(node, ranks) for node, ranks in enumerate(topology.nodes) if node != place.node]
        self._alone = not others
        self._transfer = place.links.transfer(
            [(rank, total) for _, ranks in others for rank in ranks[index::count] for total in own],
            [(ranks[index % len(ranks)], slot) for node, ranks in others for slot in received[node]],
            tag,
        )

    def reduce(self, *, politely: bool) -> None:
        """Sum the tails of all ranks into `total`."""
        if not self._alone:
            for step in self._before:
                step()
            self._transfer.start()
            self._transfer.wait(politely=politely)
        for step in self._after:
            step()
