"""The real exchange on hundreds of simulated ranks: it ends, sums right, and sends what the formulas say."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.comm.collectives import agree
from hpcnn.comm.exchange import probe
from hpcnn.comm.exchange.choice import (
    Traffic,
    Workload,
    check_choice,
    direct_traffic,
    fastest,
    halving_traffic,
)
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Place
from hpcnn.comm.exchange.tree_allreduce import TreeAllreduce
from hpcnn.comm.network import Network
from hpcnn.comm.shared_memory import PrivateMemory
from hpcnn.comm.simulated import Outcome, run_simulated
from hpcnn.comm.simulated_port import Port
from hpcnn.comm.threads import ThreadCommunicator
from hpcnn.core.tree import fold_leaves, fold_rows
from hpcnn.errors import CommunicatorError, DataError, HpcnnError
from tests.comm.exchanges import Case, sharded

NETWORK = Network(latency_s=2e-6, overhead_s=2e-7, byte_s=8e-11)
STATS = 6


def summed(
    host_of_rank: list[int], length: int, *, halving: bool, shards: int = 0
) -> tuple[Outcome[bool], Traffic, list[int]]:
    """Sum vectors once; return the outcome, the traffic by the formula, and what each host sent."""
    leaves = np.random.default_rng(1).standard_normal((shards or len(host_of_rank), length)).astype(np.float32)

    def total(lo: int, hi: int) -> np.ndarray:
        return fold_leaves((lo, hi), lambda leaf: leaves[leaf], np.add) if hi - lo < 64 else fold_rows(leaves[lo:hi])

    expected = total(0, len(leaves)).tobytes()

    def prepare(comm: ThreadCommunicator) -> Callable[[], bool]:
        exchange = comm.exchange(len(leaves), length, np.float32, STATS)
        for each in exchange.contributions:
            each.vector[...], each.stats[...] = total(*each.subtree), each.subtree[1] - each.subtree[0]

        def step() -> bool:
            exchange.allreduce()
            return exchange.vector.tobytes() == expected and exchange.stats.tolist() == [len(leaves)] * STATS

        return step

    outcome = run_simulated(host_of_rank, prepare, network=NETWORK, halving=halving)
    work = Workload(Topology.of(host_of_rank), len(leaves), length, 4, STATS)
    sent = [0] * len(work.topology.hosts)
    for host, count in zip(host_of_rank, outcome.counts, strict=True):
        sent[host] += count.sent_bytes
    return outcome, (halving_traffic if halving else direct_traffic)(work), sent


@pytest.mark.parametrize("halving", [True, False])
@pytest.mark.parametrize(("hosts", "ranks"), [(2, 1), (4, 3), (16, 2), (32, 1)])
def test_messages_bytes_and_time_are_those_of_the_formula(hosts: int, ranks: int, halving: bool) -> None:
    outcome, traffic, sent = summed([rank // ranks for rank in range(hosts * ranks)], 96 * 64, halving=halving)
    assert all(outcome.results)
    assert {count.messages for count in outcome.counts} == {traffic.messages}
    assert sent == [traffic.sent_bytes] * hosts
    barriers_s = 2e-6 * (ranks - 1).bit_length()
    messages_s = traffic.network_s(NETWORK)  # no time passes in additions
    assert outcome.seconds == pytest.approx(messages_s + barriers_s, rel=0.15)


@pytest.mark.parametrize(("hosts", "shards"), [(3, 7), (5, 5), (6, 100), (7, 16), (11, 11), (37, 64)])
def test_any_number_of_hosts_needs_at_most_twice_the_logarithm_of_messages(hosts: int, shards: int) -> None:
    length = 16 * 64
    outcome, _, sent = summed(list(range(hosts)), length, halving=True, shards=shards)
    rounds = (hosts - 1).bit_length()
    assert all(outcome.results)
    assert max(count.messages for count in outcome.counts) <= 4 * rounds  # both ways
    most_sums = max(1, 2 * (shards - 1).bit_length())
    assert max(sent) <= (most_sums + 1) * 4 * length + 2 * rounds * (8 * STATS * most_sums + 1)


@pytest.mark.parametrize(("hosts", "ranks"), [(16, 2), (13, 1)])
def test_norms_travel_in_as_many_messages_as_results(hosts: int, ranks: int) -> None:
    """Those of several buckets in one: each rank sends as many for the norms as for the results of one bucket."""
    case, alignment, buckets = Case(hosts * ranks, 64 * hosts * ranks, np.float32, STATS), 16, 2
    cells = range(0, case.length, alignment)

    def prepare(comm: ThreadCommunicator) -> Callable[[], bool]:
        exchange, _ = sharded(comm, case, bucket=case.length // buckets, alignment=alignment)
        gather = exchange.cell_gather(cells, 2)
        own = [cell for part in exchange.parts for cell in cells if part.start <= cell < part.stop]

        def step() -> bool:
            rows = gather(np.array([(cell, -cell) for cell in own], np.float64))
            return rows.tolist() == [[cell, -cell] for cell in cells]

        return step

    outcome = run_simulated([rank // ranks for rank in range(hosts * ranks)], prepare, network=NETWORK)
    assert all(outcome.results)
    rounds = (hosts - 1).bit_length()
    most = max(count.messages for count in outcome.counts)
    assert most == rounds if hosts & (hosts - 1) == 0 else rounds <= most <= 2 * rounds
    assert max(count.sent_bytes for count in outcome.counts) < 2 * 16 * len(cells)


@pytest.mark.parametrize("culprit", [None, 700])
def test_a_thousand_ranks_agree_on_errors_in_short_messages(culprit: int | None) -> None:
    """Each sends one towards rank 0 at most, and the logarithm of their number away from it, as long on any number."""

    def prepare(comm: ThreadCommunicator) -> Callable[[], str]:
        def action() -> None:
            if comm.rank == culprit:
                raise DataError("a bad file")

        def step() -> str:
            try:
                agree(comm, action)
            except HpcnnError as error:
                return str(error)
            return ""

        return step

    outcome = run_simulated(range(1024), prepare, network=NETWORK)
    told = Counter(re.sub("on .*:", "on a host:", said) for said in outcome.results)
    failed = {"rank 700 on a host: a bad file": 1023, "a bad file": 1}
    assert told == ({"": 1024} if culprit is None else failed)
    assert max(count.messages for count in outcome.counts) <= 1 + 10
    assert max(count.sent_bytes for count in outcome.counts) < 11 * 200


@pytest.mark.parametrize("hosts", [2, 5, 40])
def test_the_network_is_measured_as_it_is_whoever_comes_late(hosts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    own = threading.local()
    clock = SimpleNamespace(perf_counter=lambda: own.clocks_s[own.rank])
    monkeypatch.setattr(probe, "time", clock)

    def prepare(comm: ThreadCommunicator) -> Callable[[], Network]:
        def step() -> Network:
            own.clocks_s, own.rank = comm._world.clocks_s, comm.rank  # type: ignore[attr-defined]
            own.clocks_s[own.rank] += own.rank % 3 * 0.7 * NETWORK.latency_s
            return probe.measure(comm._place, comm.allreduce)

        return step

    outcome = run_simulated(range(hosts), prepare, network=NETWORK)
    assert outcome.results == [outcome.results[0]] * hosts
    found = outcome.results[0]
    assert [found.latency_s, found.byte_s] == pytest.approx([NETWORK.latency_s, NETWORK.byte_s], rel=0.05)
    # One message is sent while another one travels: that hides up to half of the overhead.
    assert 0.5 < found.overhead_s / NETWORK.overhead_s < 1.05


def test_hundreds_of_ranks() -> None:
    outcome, traffic, _ = summed([rank // 4 for rank in range(512)], 64, halving=True)
    assert all(outcome.results)
    assert {count.messages for count in outcome.counts} == {traffic.messages} == {2 * 7}


def test_ranks_that_wait_for_each_other_are_told() -> None:
    def prepare(comm: ThreadCommunicator) -> Callable[[], None]:
        transfer = comm._place.links.transfer([], [(1 - comm.rank, np.empty(1))], 0)
        return lambda: transfer.wait(spin=True)

    with pytest.raises(CommunicatorError, match="all 2 ranks that are left wait for each other"):
        run_simulated([0, 1], prepare, network=NETWORK)


def test_the_error_of_a_rank_is_raised() -> None:
    def prepare(comm: ThreadCommunicator) -> Callable[[], None]:
        exchange = comm.exchange(4, 10, np.float32, 1)
        return exchange.allreduce if comm.rank else lambda: 1 // 0  # type: ignore[return-value]

    with pytest.raises(ZeroDivisionError):
        run_simulated([0, 1, 2], prepare, network=NETWORK)


class Counted(tuple[tuple[int, ...], ...]):
    """Hosts that count how often something goes through all of them."""

    walks = 0

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        Counted.walks += 1
        return super().__iter__()


class NoLinks:
    """Counts messages that are never sent."""

    def __init__(self) -> None:
        self.messages = 0

    def transfer(self, sends: list[object], receives: list[object], tag: int) -> NoLinks:
        self.messages += len(sends) + len(receives)
        return self


def cost_of_a_plan(hosts: int) -> tuple[int, int, int]:
    """Return messages, bytes of memory and calls that one rank's exchange takes to prepare."""
    topology, links, calls = Topology(Counted((rank,) for rank in range(hosts))), NoLinks(), 0
    place = Place(hosts // 3, topology, PrivateMemory(), links)  # type: ignore[arg-type]
    TreeAllreduce(place, hosts, 64, np.float32, STATS, halving=True)  # the topology's own tables, once
    links.messages, Counted.walks = 0, 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    tracemalloc.start()
    sys.setprofile(count)
    try:
        exchange = TreeAllreduce(place, hosts, 64, np.float32, STATS, halving=True)
    finally:
        sys.setprofile(None)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del exchange
    assert Counted.walks == 0
    return links.messages, used, calls


def test_a_rank_prepares_no_more_than_the_logarithm_of_the_hosts() -> None:
    """From 64 to 4,096 hosts the logarithm doubles; arithmetic may grow with its square."""
    few, many = cost_of_a_plan(64), cost_of_a_plan(4096)
    assert (few[0], many[0]) == (4 * 6, 4 * 12)
    assert many[1] < 2.5 * few[1]
    assert many[2] < 4 * few[2]


@pytest.mark.parametrize(
    ("text", "network"),
    [("2us,100Gb/s", Network(2e-6, 4e-7, 8e-11)), ("0.5ms,100Mb/s", Network(5e-4, 1e-4, 8e-8))],
)
def test_a_network_can_be_named(text: str, network: Network) -> None:
    found = Network.parse(text)
    assert [found.latency_s, found.overhead_s, found.byte_s] == pytest.approx(
        [network.latency_s, network.overhead_s, network.byte_s]
    )


@pytest.mark.parametrize("text", ["2us", "2us,0Gb/s", "-1us,1Gb/s", "2 us,1Gb/s", "1us,1GB/s", "x"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(CommunicatorError, match=r"HPCNN_NETWORK is .* must be a latency and a bandwidth .* 2us,100Gb"):
        Network.parse(text)


def test_an_unknown_algorithm_is_refused() -> None:
    assert [check_choice(text) for text in ("", "direct", "halving")] == ["", "direct", "halving"]
    with pytest.raises(CommunicatorError, match="HPCNN_EXCHANGE is 'ring', but must be direct or halving"):
        check_choice("ring")


def test_the_fastest_depends_on_hosts_size_and_network() -> None:
    def choice(hosts: int, length: int, network: str, *, gather: bool = True) -> str:
        work = Workload(Topology.of(range(hosts)), hosts, length, 4, STATS)
        return fastest(work, Network.parse(network), gather=gather)

    assert choice(4, 10, "2us,100Gb/s") == "gather"
    assert choice(4, 10, "2us,100Gb/s", gather=False) in {"direct", "halving"}
    assert choice(1024, 25_450, "2us,100Gb/s") == "halving"
    assert choice(3, 10_000_000, "2us,1Gb/s") == "direct"


@settings(max_examples=60, deadline=None)
@given(messages=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), min_size=1, max_size=15))
def test_messages_share_a_port_slot_by_slot(messages: list[tuple[int, int]]) -> None:
    port, busy = Port(), set[int]()
    for earliest, duration in messages:
        free = list(itertools.islice((slot for slot in itertools.count(earliest) if slot not in busy), duration))
        busy.update(free)
        assert port.reserve(earliest, duration) == (free[0], free[-1] + 1)


@pytest.mark.parametrize("halving", [True, False])
def test_buckets_beside_the_computation_on_uneven_hosts(halving: bool) -> None:
    case = Case(13, 3000, np.float32, 3)

    def prepare(comm: ThreadCommunicator) -> Callable[[], bool]:
        exchange = comm.exchange(case.shards, case.length, case.dtype, case.stats, bucket=700)

        def step() -> bool:
            exchange.start(lambda: True)
            case.fill(exchange.contributions, 0)
            exchange.ready(0)
            return exchange.finish() and exchange.vector.tobytes() == case.total(0)[0].tobytes()

        return step

    assert all(run_simulated([0, 0, 1, 2, 3, 3, 3, 4, 5, 6], prepare, network=NETWORK, halving=halving).results)
