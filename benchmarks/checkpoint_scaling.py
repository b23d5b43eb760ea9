"""What a checkpoint costs the busiest of a thousand ranks: the real save, on simulated ranks.

    python -m benchmarks.checkpoint_scaling

Ranks bring their parts of two vectors, as Adam has them, into one file: each its own, or rank 0 all of them. The state
grows with the ranks, by one chunk of each vector a rank, or it has 64 chunks of each. A chunk is 64 KB in place of
8 MB, so that the parts of all ranks fit into memory. Messages that a barrier takes are counted too.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.comm.exchange.halving import lanes_of, member_piece
from hpcnn.comm.exchange.partition import Partitions
from hpcnn.comm.exchange.plan import Range, Topology, piece
from hpcnn.comm.network import Network
from hpcnn.comm.simulated import SimulatedWorld, run_simulated
from hpcnn.comm.threads import ThreadCommunicator
from hpcnn.runs.checkpoints import together
from hpcnn.storage import disk, hashing
from hpcnn.storage.checkpoint import PendingCheckpoint
from hpcnn.storage.draft import ALIGNMENT, Draft
from hpcnn.storage.lazy import LazyArray
from hpcnn.system.atomic import write_text

NETWORK = "2us,100Gb/s"
RANKS_OF_HOST = 16
CHUNKS = 64
"""Of each vector of a state that does not grow."""
LINE = 16
"""Partitions are cut at multiples of this many entries."""


class Counts:
    """What each rank received, wrote and opened."""

    def __init__(self) -> None:
        self.received, self.written, self.opened = Counter[int](), Counter[int](), Counter[int]()
        self.ranks: dict[int, int] = {}
        """The rank of each thread."""

    @contextmanager
    def counted(self, *, shared: bool) -> Iterator[None]:
        """Count within the block; without `shared`, rank 0 alone can open the file."""
        take, write_at, opened = SimulatedWorld.take, disk.write_at, Draft.opened

        def taking(world: SimulatedWorld, source: int, rank: int, tag: int) -> Any:
            self.received[rank] += 1
            return take(world, source, rank, tag)

        def writing(descriptor: int, data: memoryview, place: int) -> None:
            self.written[self.ranks[threading.get_ident()]] += len(data)
            write_at(descriptor, data, place)

        @contextmanager
        def opening(draft: Draft) -> Iterator[int]:
            rank = self.ranks[threading.get_ident()]
            self.opened[rank] += 1
            if rank and not shared:
                raise FileNotFoundError
            with opened(draft) as descriptor:
                yield descriptor

        SimulatedWorld.take, disk.write_at, Draft.opened = taking, writing, opening  # type: ignore[method-assign]
        try:
            yield
        finally:
            SimulatedWorld.take, disk.write_at, Draft.opened = take, write_at, opened  # type: ignore[method-assign]


def owned(topology: Topology, length: int, rank: int) -> list[Range]:
    """Return a rank's partitions of a vector in one bucket, as the exchange by halving deals them."""
    hosts, host = (0, len(topology.hosts)), topology.host_of(rank)
    lanes = [piece((0, length), topology.lanes, LINE, lane) for lane in lanes_of(topology, rank)]
    pieces = [member_piece(hosts, host, lane, LINE) for lane in lanes]
    return [each for each in pieces if each[0] < each[1]]


def simulated(ranks: int, chunks: int, *, shared: bool) -> dict[str, float]:
    """Save a state whose vectors have so many chunks; return the figures of the busiest ranks."""
    length = chunks * hashing.CHUNK // 4
    weights, counts = np.zeros(LINE, np.float32), Counts()

    def prepare(comm: ThreadCommunicator) -> Callable[[], None]:
        place = comm._place
        partitions = Partitions(place, length, partial(owned, place.topology, length))
        size = sum(stop - start for start, stop in owned(place.topology, length, comm.rank))
        spread = LazyArray(weights.dtype, (length,), deal=partial(partitions.deal, np.ones(size, np.float32)))
        arrays = {"model/w": LazyArray.of(weights), "optimizer/m": spread, "optimizer/v": spread}

        def step() -> None:
            counts.ranks[threading.get_ident()] = comm.rank
            content = PendingCheckpoint(arrays, {})
            trouble = together.save_together(comm, content, file, also=[], beat=lambda: None, prepare=lambda: None)
            assert not trouble, trouble

        return step

    with tempfile.TemporaryDirectory() as folder, counts.counted(shared=shared):
        file = Path(folder) / "checkpoint.safetensors"
        host_of_rank = [rank // RANKS_OF_HOST for rank in range(ranks)]
        outcome = run_simulated(host_of_rank, prepare, network=Network.parse(NETWORK))
    return {
        "messages sent": max(count.messages for count in outcome.counts),
        "messages received": max(counts.received.values()),
        "share written": max(counts.written.values()) / (2 * length * 4),
        "files opened": max(counts.opened.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 64, 256, 1024], metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    given = parser.parse_args()
    hashing.CHUNK, together.FEWEST_HOSTS = ALIGNMENT, 1
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # every simulated rank opens the file in this process
    content: dict[str, Any] = {}
    for ranks in given.ranks:
        for state, chunks in (("a chunk a rank", ranks), (f"{CHUNKS} chunks", CHUNKS)):
            for way, shared in (("each its part", True), ("rank 0 everything", False)):
                gc.collect()
                figures = simulated(ranks, chunks, shared=shared)
                content.setdefault(str(ranks), {}).setdefault(state, {})[way] = figures
                row = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items())
                print(f"{ranks:>5} ranks, {state}, {way}, the busiest: {row}", flush=True)
    if given.json:
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
