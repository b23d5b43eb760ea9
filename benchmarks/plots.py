"""Draw the plot of the first page from the recorded results: python -m benchmarks.plots docs/images/benchmarks.svg.

On the left the hashes of `benchmarks.hashes`, on the right the ratios of `benchmarks.ddp`.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.problem import NETWORKS
from scripts.drawing import box, card, text

RESULTS = Path(__file__).parent / "results"
WIDTH, HEIGHT, MIDDLE = 860, 214, 470
CELL, CELL_HEIGHT, FIRST_CELL = 41, 38, 112
BAR, AXIS, UNIT = 22, 600, 37.0
"""Height of a bar, where bars begin, and the pixels of a ratio of 1."""


def main() -> int:
    """Write the plot to the file that is named, and return the exit code."""
    Path(sys.argv[1]).write_text(plot(), encoding="utf-8")
    return 0


def plot() -> str:
    """Return the plot of what is in the folder of results."""
    hashes, ddp = (json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("hashes", "ddp"))
    label = "Left: the hash of the weights on 1 to 8 ranks, one for hpcnn, another each time for PyTorch DDP. "
    label += "Right: training throughput on 2 ranks as a multiple of that of PyTorch DDP, for three networks"
    return card(WIDTH, HEIGHT, label, [*hash_panel(hashes), *throughput_panel(ddp)])


def hash_panel(results: dict[str, Any]) -> list[str]:
    """Return a row of cells per side, a cell per number of ranks; equal hashes have equal colours."""
    shapes = [
        text(20, 26, "SHA-256 of the trained weights, by number of ranks", "title left"),
        text(20, 58, "ranks", "note left"),
    ]
    colours: dict[str, int] = {}
    for column, ranks in enumerate(results["ranks"]):
        shapes.append(text(FIRST_CELL + (column + 0.5) * CELL, 58, str(ranks), "note"))
    for row, (side, hashes) in enumerate(results["hashes"].items()):
        top = 74 + row * (CELL_HEIGHT + 8)
        shapes.append(text(20, top + CELL_HEIGHT / 2, side, "left"))
        for column, each in enumerate(hashes):
            colour, x = colours.setdefault(each, len(colours)), FIRST_CELL + column * CELL
            shapes.append(box(x, top, CELL - 2, CELL_HEIGHT, f"c{colour}"))
            shapes.append(text(x + CELL / 2 - 1, top + CELL_HEIGHT / 2, each[:4], "hex"))
    shapes.append(text(20, HEIGHT - 22, "Within a row only the number of ranks differs.", "note left"))
    return shapes


def throughput_panel(results: dict[str, Any]) -> list[str]:
    """Return a bar per network: the median of the ratios, with the least and the greatest round."""
    shapes = [text(MIDDLE, 26, f"Training throughput on {results['ranks']} ranks, PyTorch DDP = 1", "title left")]
    for row, name in enumerate(NETWORKS):
        ratios, y = results[name]["ratio hpcnn / DDP"], 60 + row * 40
        ratio, least, greatest = statistics.median(ratios), min(ratios), max(ratios)
        middle = y + BAR / 2
        shapes.append(text(MIDDLE, middle, name, "left"))
        shapes.append(box(AXIS, y, ratio * UNIT, BAR, "c0"))
        shapes.append(f'<path class="range" d="M{AXIS + least * UNIT:.1f} {middle:g} H{AXIS + greatest * UNIT:.1f}"/>')
        shapes.append(text(AXIS + greatest * UNIT + 6, middle, f"{ratio:.1f}x", "title left"))
    shapes.append(f'<path class="one" d="M{AXIS + UNIT:g} 50 V172"/>')
    shapes.append(text(MIDDLE, HEIGHT - 22, f"Median and range of {len(ratios)} rounds; Adam, gloo.", "note left"))
    return shapes


if __name__ == "__main__":
    sys.exit(main())
