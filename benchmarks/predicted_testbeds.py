"""Run benchmarks.predicted on testbeds made on this machine, and print what it finds as rows of a table. Needs root.

python -m benchmarks.predicted_testbeds --json benchmarks/results/predicted.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.on_testbed import figures_of
from benchmarks.report import positive
from hpcnn.core.formatting import counted, three_digits
from hpcnn.system.atomic import write_text
from tests.mpi.nodes import unavailable

LAYOUTS = ([1, 1], [2, 2], [1, 1, 1, 1])
"""Ranks on each node."""
RATES_MBIT = (100, 1000, 10000)
GOOD = 0.15
RATIO = "time predicted / measured"


def rows(bed: str, figures: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield a row for each network, and the median of its ratios."""
    for name, found in figures.items():
        if isinstance(found, dict):
            ratios = found[RATIO]
            times = " | ".join(three_digits(median(found[side])) for side in ("predicted", "measured"))
            spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            yield f"| {bed}, {name} | {times} | {spread} |", median(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3, help="measurements of each; 3")
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement; 0.2")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="default: all of benchmarks.predicted")
    parser.add_argument("--rates-mbit", type=positive, nargs="+", default=RATES_MBIT, metavar="R", help="of the wires")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the raw figures there")
    given = parser.parse_args()
    trouble = unavailable()
    if trouble:
        sys.stderr.write(f"no nodes can be made here: {trouble}\n")
        return 2
    words = ["--rounds", str(given.rounds), "--seconds", str(given.seconds)]
    words += ["--networks", *given.networks] if given.networks else []
    content: dict[str, Any] = {}
    found: list[float] = []
    for ranks in LAYOUTS:
        for rate in given.rates_mbit:
            bed = f"{len(ranks)} hosts of {counted(ranks[0], 'rank')}, {rate:,} Mbit/s"
            content[bed] = figures_of("benchmarks.predicted", words, ranks, rate_mbit=rate)
            for row, ratio in rows(bed, content[bed]):
                found.append(ratio)
                print(row, flush=True)
            if given.json:
                write_text(given.json, json.dumps(content, indent=1) + "\n")
    good = sum(abs(ratio - 1) <= GOOD for ratio in found)
    print(f"{good} of {len(found)} within {GOOD:.0%}, all between {min(found):.2f} and {max(found):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
