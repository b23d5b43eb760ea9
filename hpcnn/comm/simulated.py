"""Thousands of ranks over a simulated network: the real exchange code, with every message counted and timed.

Each rank is a thread, but only one runs at a time: the one whose clock is earliest, until it waits for what is not
there yet. Time passes in messages and barriers alone, by LogGP (Alexandrov et al. 1995), with one port a host in each
direction; computing takes none. SimGrid's Python interface would be a large dependency, tied to one build of Python;
its model is made for shared links and routes, which are not modelled here; and it too would run each rank as a thread.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Message
from hpcnn.comm.network import Network
from hpcnn.comm.protocol import Array
from hpcnn.comm.simulated_communicator import ObjectLinks, SimulatedCommunicator
from hpcnn.comm.simulated_port import Port
from hpcnn.comm.threads import Group, ThreadCommunicator
from hpcnn.errors import CommunicatorError

T = TypeVar("T")
_STACK_BYTES = 256 * 1024
"""Of a rank's thread."""
_OBJECT_TAG = -1
_BARRIER_S = 1e-6
"""Of the ranks of one host, per doubling of their number."""


@dataclass
class Count:
    """What one rank has sent to other ranks."""

    messages: int = 0
    sent_bytes: int = 0


class SimulatedWorld:
    """What the ranks share: the network, the clocks, and who runs next.

    Args:
        host_of_rank: the host of each rank.
        network: what messages cost.
        halving: whether the exchange between hosts halves and doubles.
        memory: returns the bytes that are allocated now.
    """

    def __init__(
        self, host_of_rank: Sequence[int], network: Network, *, halving: bool, memory: Callable[[], int]
    ) -> None:
        self.topology, self.network, self.halving = Topology.of(host_of_rank), network, halving
        self.overhead_s = network.overhead_s / 2
        """Of a message at either end."""
        self.size = len(host_of_rank)
        self.host_of_rank = [self.topology.host_of(rank) for rank in range(self.size)]
        self.clocks_s = [0.0] * self.size
        """The time of each rank."""
        self.counts = [Count() for _ in range(self.size)]
        self.used_bytes = [0] * self.size
        """What each rank has allocated and not freed, by `memory`."""
        self._memory, self._began_bytes = memory, 0
        self.everyone = _Group(self, range(self.size), network.latency_s)
        self.hosts = [_Group(self, ranks, _BARRIER_S) for ranks in self.topology.hosts]
        self.mail: defaultdict[tuple[int, int, int], deque[tuple[float, Array]]] = defaultdict(deque)
        self.waiting: dict[tuple[int, int, int], int] = {}
        """Which rank waits for a message."""
        self._out, self._in = ([Port() for _ in self.topology.hosts] for _ in range(2))
        self._turns = [threading.Lock() for _ in range(self.size)]
        for turn in self._turns:
            turn.acquire()
        self._ready: list[tuple[float, int]] = [(0.0, rank) for rank in range(self.size)]
        self._lock = threading.Lock()
        self.error: BaseException | None = None
        self._left = self.size

    def links(self, rank: int) -> SimulatedLinks:
        """Return the links of a rank."""
        return SimulatedLinks(self, rank)

    def deliver(self, source: int, target: int, tag: int, array: Array) -> float:
        """Send a message at the time of `source`; return when it has left."""
        network, count = self.network, self.counts[source]
        self.clocks_s[source] += self.overhead_s
        count.messages += 1
        count.sent_bytes += array.nbytes
        out, into, wire_s = self.host_of_rank[source], self.host_of_rank[target], array.nbytes * network.byte_s
        begin_s, left_s = self._out[out].reserve(self.clocks_s[source], wire_s)
        travel_s = max(0.0, network.latency_s - 2 * self.overhead_s)
        _, arrival_s = self._in[into].reserve(begin_s + travel_s, wire_s)
        key = source, target, tag
        self.mail[key].append((arrival_s, array.copy()))
        waiter = self.waiting.pop(key, None)
        if waiter is not None:
            self.wake(waiter, arrival_s)
        return left_s

    def take(self, source: int, rank: int, tag: int) -> Array:
        """Return the next message from `source`, at the time of `rank`, once it is there."""
        key = source, rank, tag
        if not self.mail[key]:
            self.waiting[key] = rank
            self.pause(rank)
        arrival_s, content = self.mail[key].popleft()
        self.clocks_s[rank] = max(self.clocks_s[rank], arrival_s) + self.overhead_s
        return content

    def wake(self, rank: int, time_s: float) -> None:
        """Let a rank go on, no earlier than `time_s`."""
        self.clocks_s[rank] = max(self.clocks_s[rank], time_s)
        heapq.heappush(self._ready, (self.clocks_s[rank], rank))

    def let_earlier_ranks_run(self, rank: int) -> None:
        """Let those run whose clocks are behind this rank's, so that messages enter ports in the order of time."""
        if self._ready and self._ready[0][0] < self.clocks_s[rank]:
            self.wake(rank, self.clocks_s[rank])
            self.pause(rank)

    def pause(self, rank: int) -> None:
        """Let others run until this rank is woken.

        Raises:
            CommunicatorError: another rank has failed, or every rank waits.
        """
        if self.error is None:
            self._charge(rank)
            self._next(rank)
            self._turns[rank].acquire()
            self._began_bytes = self._memory()
        if self.error is not None:
            raise CommunicatorError("a rank failed, or all wait for each other")

    def _charge(self, rank: int) -> None:
        """Charge what was allocated since its turn began to a rank."""
        self.used_bytes[rank] += self._memory() - self._began_bytes

    def _next(self, leaving: int) -> None:
        if self._ready:
            self._turns[heapq.heappop(self._ready)[1]].release()
        elif self._left and self.error is None:
            self.fail(CommunicatorError(f"all {self._left} ranks that are left wait for each other"), leaving)
            self._turns[leaving].release()

    def fail(self, error: BaseException, rank: int) -> None:
        """Stop all other ranks."""
        if self.error is None:
            self.error = error
            for other, turn in enumerate(self._turns):
                if other != rank and turn.locked():
                    turn.release()

    def run(self, rank: int, body: Callable[[], None]) -> None:
        """Run a rank, from its first turn to its end."""
        self._turns[rank].acquire()
        self._began_bytes = self._memory()
        try:
            if self.error is None:
                body()
                self._charge(rank)
        except BaseException as error:  # raised again by run_simulated
            self.fail(error, rank)
        with self._lock:  # after an error several run at a time
            self._left -= 1
        if self.error is None:
            self._next(rank)

    def begin(self) -> None:
        """Give the first rank its turn."""
        self._turns[heapq.heappop(self._ready)[1]].release()


class _Group(Group):
    """Some ranks: a barrier, and one slot for each."""

    def __init__(self, world: SimulatedWorld, ranks: Sequence[int], round_s: float) -> None:
        self._world, self._ranks = world, ranks
        self._cost_s = round_s * (len(ranks) - 1).bit_length()
        self.slots: list[Any] = [None] * len(ranks)
        self._came: list[int] = []

    def wait(self, index: int) -> None:
        """Wait for all ranks of the group."""
        world, rank = self._world, self._ranks[index]
        self._came.append(rank)
        if len(self._came) < len(self.slots):
            world.pause(rank)
            return
        came, self._came = self._came, []
        time_s = max(world.clocks_s[each] for each in came) + self._cost_s
        for each in came:
            world.wake(each, time_s)
        world.pause(rank)


class _SimulatedTransfer:
    """Messages that take their time."""

    def __init__(self, links: SimulatedLinks, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> None:
        self._world, self._rank, self._tag = links.world, links.rank, tag
        # As in MPI, an empty array needs no message.
        self._sends = [message for message in sends if message[1].size]
        self._receives = [message for message in receives if message[1].size]
        self._left_s = 0.0

    def start(self) -> None:
        """Let them go."""
        for target, array in self._sends:
            self._left_s = self._world.deliver(self._rank, target, self._tag, array)

    def wait(self, *, spin: bool) -> None:
        """Take what has arrived, when it has."""
        world, rank = self._world, self._rank
        for source, array in self._receives:
            array[...] = world.take(source, rank, self._tag)
        world.clocks_s[rank] = max(world.clocks_s[rank], self._left_s)
        world.let_earlier_ranks_run(rank)

    def free(self) -> None:
        """Do nothing."""


class SimulatedLinks(ObjectLinks):
    """Links of one rank over the simulated network."""

    def __init__(self, world: SimulatedWorld, rank: int) -> None:
        self.world, self.rank = world, rank

    def transfer(self, sends: Sequence[Message], receives: Sequence[Message], tag: int) -> _SimulatedTransfer:
        """Return a transfer."""
        return _SimulatedTransfer(self, sends, receives, tag)

    def allgather(self, own: Array, counts: Sequence[int]) -> Array:
        """Return the vectors of all ranks, one after the other, by MPI's own messages; none of them is counted."""
        everyone = self.world.everyone.share(self.rank, own.copy())
        self.world.clocks_s[self.rank] += sum(counts) * own.itemsize * self.world.network.byte_s
        return np.concatenate(everyone)

    def send(self, target: int, data: bytes) -> None:
        """Send an object's bytes."""
        self.world.deliver(self.rank, target, _OBJECT_TAG, np.frombuffer(data, np.uint8))

    def receive(self, source: int) -> bytes:
        """Return the bytes that `source` sends next."""
        return self.world.take(source, self.rank, _OBJECT_TAG).tobytes()

    def count(self, messages: int, sent_bytes: int) -> None:
        """Count messages that a library sends."""
        count = self.world.counts[self.rank]
        count.messages += messages
        count.sent_bytes += sent_bytes
        self.world.clocks_s[self.rank] += sent_bytes * self.world.network.byte_s


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What a simulation came to."""

    results: list[T]
    """What each rank's step returned."""
    counts: list[Count]
    """What each rank sent in the step."""
    seconds: float
    """From the start of the step until the last rank has ended it."""
    used_bytes: list[int]
    """What each rank has allocated and kept, as far as that was asked for."""


def run_simulated(
    host_of_rank: Sequence[int],
    prepare: Callable[[ThreadCommunicator], Callable[[], T]],
    *,
    network: Network,
    halving: bool = True,
    memory: Callable[[], int] = int,
) -> Outcome[T]:
    """Let ranks of these hosts call `prepare` and then, all at once, the step that it returns: that is what is counted.

    `memory` returns the bytes that are allocated now, as ``lambda: tracemalloc.get_traced_memory()[0]`` does.

    Raises:
        Exception: what the first failing rank raised.
        CommunicatorError: all ranks wait for each other, or the system gives no more threads.

    >>> network = Network(latency_s=2e-6, overhead_s=1e-7, byte_s=1e-10)
    >>> outcome = run_simulated([0, 0, 1], lambda comm: lambda: comm.rank, network=network)
    >>> outcome.results, outcome.seconds
    ([0, 1, 2], 0.0)
    """
    world = SimulatedWorld(host_of_rank, network, halving=halving, memory=memory)
    results: list[Any] = [None] * world.size
    begin_s = [0.0] * world.size

    def call(rank: int) -> None:
        step = prepare(SimulatedCommunicator(world, rank, world.links(rank)))
        world.everyone.wait(rank)
        begin_s[rank], world.counts[rank], world.used_bytes[rank] = world.clocks_s[rank], Count(), 0
        results[rank] = step()

    before = threading.stack_size(_STACK_BYTES)
    threads = [
        threading.Thread(target=world.run, args=(rank, partial(call, rank)), daemon=True) for rank in range(world.size)
    ]
    try:
        for thread in threads:
            thread.start()
    except RuntimeError as error:
        raise CommunicatorError(f"the system gives no {world.size} threads: {error}. Simulate fewer ranks.") from None
    finally:
        threading.stack_size(before)
    world.begin()
    for thread in threads:
        thread.join()
    if world.error is not None:
        raise world.error
    return Outcome(results, world.counts, max(world.clocks_s) - begin_s[0], world.used_bytes)
