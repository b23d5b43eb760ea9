"""Whether runs choose the faster algorithm: a table of sizes by networks, on hosts made on this machine. Needs root.

python -m benchmarks.choice

A cell is the time by halving over that of the direct exchange, and what is chosen; ~ where none of the two is faster.
The network is measured for each cell as often as there are rounds, each time as a run does, and each is one choice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.algorithms import NETWORK, RATIO, STATS
from benchmarks.on_testbed import figures_of
from benchmarks.report import positive
from hpcnn.comm.exchange.choice import HALVING, Workload, fastest
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.network import Network
from hpcnn.system.atomic import write_text
from tests.mpi.nodes import unavailable

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

    @property
    def chosen(self) -> dict[str, int]:
        """How often which one was chosen, the most frequent first."""
        return dict(Counter(self.choices).most_common())

    def __str__(self) -> str:
        (name, count), total = next(iter(self.chosen.items())), len(self.choices)
        said = f"{'' if self.decided else '~'}{self.ratio:.2f} {name}" + (f" {count}/{total}" if count < total else "")
        return said if 2 * self.right >= total else f"**{said}**"


def cells(found: dict[str, Any], ranks: Sequence[int]) -> Iterator[Cell]:
    """Yield the cells of one network, and keep with the figures what was chosen."""
    topology = Topology.of([host for host, count in enumerate(ranks) for _ in range(count)])
    for name, figures in found.items():
        if "entries" in name:
            length = int(name.split()[0])
            work = Workload(topology, len(topology.order), length, 4, STATS)
            networks = zip(*(figures[part] for part in NETWORK), strict=True)
            choices = [fastest(work, Network(*(each / 1000 for each in one)), gather=False) for one in networks]
            cell = Cell(figures[RATIO], choices)
            figures |= {"entries": length, "chosen": cell.chosen}
            yield cell


def verdict(found: Sequence[Cell]) -> dict[str, int]:
    """Return how many choices there are, and how many are right: of all, and where one algorithm is faster."""
    decided = [each for each in found if each.decided]
    return {
        "choices": sum(len(each.choices) for each in found),
        "right": sum(each.right for each in found),
        "choices where one is faster": sum(len(each.choices) for each in decided),
        "right where one is faster": sum(each.right for each in decided),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="measurements of each; 5")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each measurement; 0.1")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 1, 1, 1], metavar="N", help="on each node; 1 1 1 1")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument("--lengths", type=positive, nargs="+", default=LENGTHS, metavar="N", help="entries, float32")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    given = parser.parse_args()
    if given.json and not given.json.parent.is_dir():
        parser.error(f"--json {given.json}: there is no folder {str(given.json.parent)!r}. Make it first.")
    trouble = unavailable(latency=any("latency_us" in NETWORKS[name] for name in given.networks))
    if trouble:
        sys.stderr.write(f"no nodes can be made here: {trouble}\n")
        return 2
    words = list(map(str, ["--rounds", given.rounds, "--seconds", given.seconds, "--lengths", *given.lengths]))
    content: dict[str, Any] = {"ranks on each node": given.ranks, "rounds": given.rounds}
    everything: list[Cell] = []
    print(f"| | {' | '.join(f'{length:,}' for length in given.lengths)} |")
    print("|---" * (1 + len(given.lengths)) + "|")
    for name in given.networks:
        content[name] = found = figures_of("benchmarks.algorithms", words, given.ranks, **NETWORKS[name])
        row = list(cells(found, given.ranks))
        everything += row
        print(f"| {name} | {' | '.join(map(str, row))} |", flush=True)
    content |= verdict(everything)
    print("\n" + ", ".join(f"{count} {name}" for name, count in verdict(everything).items()))
    if given.json:
        write_text(given.json, json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
