"""Messages, bytes and time of a step's exchange on up to thousands of hosts: the real exchange, simulated.

    python -m benchmarks.exchange_scaling

One rank a host sums the gradients of 784-32-10. Time is that of LogGP and leaves out additions. The direct exchange on
more than 256 hosts, and the gather, whose messages are MPI's own, are not simulated: their figures come from the
formulas by which hpcnn chooses. The tests compare those with the simulation.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import time
import tracemalloc
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.comm.exchange.choice import ALGORITHMS, DIRECT, GATHER, HALVING, TRAFFIC, Workload, fastest
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.exchange.transport import Message, Place
from hpcnn.comm.exchange.tree_allreduce import TreeAllreduce
from hpcnn.comm.network import Network
from hpcnn.comm.shared_memory import PrivateMemory
from hpcnn.comm.simulated import Outcome, run_simulated
from hpcnn.comm.threads import ThreadCommunicator
from hpcnn.system.atomic import write_text

LENGTH, STATS = 784 * 32 + 32 + 32 * 10 + 10, 8
LATENCIES = ("1us", "2us", "10us")
MOST_HOSTS_DIRECT = 256
LONGEST = 10**9
TABLE_LENGTHS, TABLE_HOSTS = (100, 2_500, LENGTH, 250_000), (4, 16, 64)
TABLE_NETWORKS = tuple(f"{latency},{rate}" for latency in (*LATENCIES, "50us") for rate in ("1Gb/s", "100Gb/s"))


def simulated(hosts: int, length: int, algorithm: str, network: Network) -> Outcome[None]:
    """Sum one vector of each rank."""

    def prepare(comm: ThreadCommunicator) -> Callable[[], None]:
        return comm.exchange(hosts, length, np.float32, STATS).allreduce

    return run_simulated(range(hosts), prepare, network=network, halving=algorithm == HALVING)


def scaling(hosts: int) -> dict[str, Any]:
    """Return the figures of all algorithms on so many hosts."""
    work = Workload(Topology.of(range(hosts)), hosts, LENGTH, 4, STATS)
    gc.collect()  # what thousands of ranks have left
    figures: dict[str, Any] = {"prepare": preparation(hosts)}
    figures["halving up to"] = {
        latency: crossover(hosts, Network.parse(f"{latency},100Gb/s")) / 1000 for latency in LATENCIES
    }
    for algorithm in (DIRECT, HALVING, GATHER):
        traffic = TRAFFIC[algorithm](work)
        networks = {latency: Network.parse(f"{latency},100Gb/s") for latency in LATENCIES}
        times = {latency: traffic.network_s(network) * 1e6 for latency, network in networks.items()}
        found: dict[str, Any] = {"messages": traffic.messages, "KB": traffic.sent_bytes / 1000, "us": times}
        if algorithm == HALVING or (algorithm == DIRECT and hosts <= MOST_HOSTS_DIRECT):
            outcome = simulated(hosts, LENGTH, algorithm, networks["2us"])
            found["simulated"] = {
                "messages": max(count.messages for count in outcome.counts),
                "KB": max(count.sent_bytes for count in outcome.counts) / 1000,
                "us": outcome.seconds * 1e6,
            }
        figures[algorithm] = found
    return figures


class _NoLinks:
    def transfer(self, sends: list[Message], receives: list[Message], tag: int) -> _NoLinks:
        return self


def preparation(hosts: int) -> dict[str, float]:
    """Return what one rank needs to prepare a small exchange by halving."""
    begin = time.perf_counter()
    topology = Topology.of(range(hosts))
    place = Place(hosts // 2, topology, PrivateMemory(), _NoLinks())  # type: ignore[arg-type]
    TreeAllreduce(place, hosts, 64, np.float32, STATS, halving=True)
    first = time.perf_counter()
    tracemalloc.start()
    kept = TreeAllreduce(place, hosts, 64, np.float32, STATS, halving=True)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return {"ms, with the topology": (first - begin) * 1e3, "KiB": used / 1024}


def crossover(hosts: int, network: Network) -> int:
    """Return the number of entries up to which halving is chosen, or 0."""

    def halves(length: int) -> bool:
        work = Workload(Topology.of(range(hosts)), hosts, length, 4, STATS)
        return fastest(work, network, gather=False) == HALVING

    return bisect_left(range(1, LONGEST), True, key=lambda length: not halves(length))


def choices() -> dict[str, Any]:
    """Return how often the choice between direct and halving is the faster one, or within 5 %.

    Counted are messages as they are simulated, and additions as the formula has them.
    """
    cases: list[dict[str, Any]] = []
    for length, hosts, text in itertools.product(TABLE_LENGTHS, TABLE_HOSTS, TABLE_NETWORKS):
        network = Network.parse(text)
        work = Workload(Topology.of(range(hosts)), hosts, length, 4, STATS)
        seconds = {
            each: simulated(hosts, length, each, network).seconds + TRAFFIC[each](work).local_s() for each in ALGORITHMS
        }
        chosen = fastest(work, network, gather=False)
        cases.append({"length": length, "hosts": hosts, "network": text, "chosen": chosen, "seconds": seconds})
    right = [each for each in cases if each["seconds"][each["chosen"]] <= 1.05 * min(each["seconds"].values())]
    return {"cases": len(cases), "right": len(right), "share": len(right) / len(cases), "all": cases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[4, 16, 64, 256, 1024, 4096], metavar="N")
    parser.add_argument("--no-choices", action="store_true", help="leave out the table of sizes by networks")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    given = parser.parse_args()
    content: dict[str, Any] = {}
    for hosts in given.hosts:
        content[str(hosts)] = figures = scaling(hosts)
        for algorithm in TRAFFIC:
            found = figures[algorithm]
            shown = found.get("simulated", found | {"us": found["us"]["2us"]})
            times = ", ".join(f"{latency} {found['us'][latency]:,.1f}" for latency in LATENCIES)
            kind = "simulated" if "simulated" in found else "formula"
            line = f"{hosts:>5} hosts  {algorithm:<8} {shown['messages']:>7,} messages  {shown['KB']:>11,.1f} KB"
            print(f"{line}  {shown['us']:>9,.1f} us {kind}; formula at {times}", flush=True)
        print(f"{hosts:>5} hosts  a rank prepares: {figures['prepare']}", flush=True)
        print(f"{hosts:>5} hosts  halving up to thousands of entries: {figures['halving up to']}", flush=True)
    if not given.no_choices:
        content["choice"] = found = choices()
        print(f"the choice is the faster one, or within 5 %: {found['right']} of {found['cases']}")
    if given.json:
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
