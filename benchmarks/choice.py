"""Whether runs choose the faster algorithm: a table of sizes by networks, on hosts made on this machine. Needs root.

python -m benchmarks.choice
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.algorithms import NETWORK, RATIO, STATS
from benchmarks.report import positive
from hpcnn.comm.exchange.choice import HALVING, Workload, fastest
from hpcnn.comm.exchange.network import Network
from hpcnn.comm.exchange.plan import Topology
from hpcnn.system.atomic import write_text
from tests.mpi.launch import mpich
from tests.mpi.nodes import Testbed, unavailable

LENGTHS = (100, 1_000, 5_000, 25_450, 100_000, 300_000, 700_000, 2_000_000)
NETWORKS: dict[str, dict[str, float]] = {
    "100 Mbit/s": {"rate_mbit": 100},
    "1 Gbit/s": {"rate_mbit": 1000},
    "10 Gbit/s": {"rate_mbit": 10_000},
    "no limit": {},
    "0.2 ms": {"latency_us": 200},
    "1 ms": {"latency_us": 1000},
    "5 ms": {"latency_us": 5000},
}
EQUAL = 0.03
"""Times that differ by less count as equal."""


@dataclass(frozen=True)
class Cell:
    """One length on one network."""

    ratios: Sequence[float]
    """Of the times by halving and directly, round by round."""
    choices: Sequence[str]
    """By the network as it was measured, again and again."""

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)

    @property
    def decided(self) -> bool:
        """Whether one of them is faster: by the median and by the middle half of the rounds."""
        low, _, high = quantiles(self.ratios, n=4, method="inclusive")
        return abs(self.ratio - 1) > EQUAL and (high < 1 or low > 1)

    @property
    def right(self) -> int:
        """How many of the choices are the faster one, or as fast."""
        return sum(not self.decided or (each == HALVING) == (self.ratio < 1) for each in self.choices)

    def __str__(self) -> str:
        chosen = ", ".join(f"{name} {count}" for name, count in Counter(self.choices).most_common())
        mark = "" if self.decided else "~"
        wrong = " **wrong**" if 2 * self.right < len(self.choices) else ""
        return f"{mark}{self.ratio:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f}): {chosen}{wrong}"


def measured(network: dict[str, float], ranks: Sequence[int], given: argparse.Namespace) -> dict[str, Any]:
    """Return what `benchmarks.algorithms` writes, run on hosts with these many ranks."""
    with Testbed(len(ranks), **network) as testbed, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "raw.json")
        words = ["--rounds", given.rounds, "--seconds", given.seconds, "--json", path, "--lengths", *given.lengths]
        command = ["-m", "benchmarks.algorithms", *map(str, words)]
        done = testbed.run(mpich(), ranks, *command, cwd=Path.cwd(), timeout_s=600)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def cells(found: dict[str, Any], ranks: Sequence[int]) -> Iterator[Cell]:
    """Return the cells of one network."""
    topology = Topology.of([host for host, count in enumerate(ranks) for _ in range(count)])
    for name, figures in found.items():
        if "entries" in name:
            work = Workload(topology, len(topology.order), int(name.split()[0]), 4, STATS)
            networks = zip(*(figures[part] for part in NETWORK), strict=True)
            choices = [fastest(work, Network(*(each / 1000 for each in one)), gather=False) for one in networks]
            yield Cell(figures[RATIO], choices)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="measurements of each; 5")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each measurement; 0.1")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 1, 1, 1], metavar="N", help="on each node; 1 1 1 1")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument("--lengths", type=positive, nargs="+", default=LENGTHS, metavar="N", help="entries, float32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    given = parser.parse_args()
    trouble = unavailable(latency=any("latency_us" in NETWORKS[name] for name in given.networks))
    if trouble:
        sys.stderr.write(f"no nodes can be made here: {trouble}\n")
        return 2
    content: dict[str, Any] = {}
    everything: list[Cell] = []
    print(f"| entries | {' | '.join(f'{length:,}' for length in given.lengths)} |")
    print("|---" * (1 + len(given.lengths)) + "|")
    for name in given.networks:
        content[name] = found = measured(NETWORKS[name], given.ranks, given)
        row = list(cells(found, given.ranks))
        everything += row
        print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)
    choices, right = sum(len(each.choices) for each in everything), sum(each.right for each in everything)
    content["choices"], content["right"] = choices, right
    decided = [each for each in everything if each.decided]
    of_decided = sum(each.right for each in decided), sum(len(each.choices) for each in decided)
    print(
        f"{right} of {choices} choices are the faster one, or as fast; {of_decided[0]} of {of_decided[1]} where one is"
    )
    if given.json:
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
