"""Draws the plot of the first page from the recorded results: python -m benchmarks.plots docs/images/benchmarks.svg.

On the left the hashes of `benchmarks.hashes`, on the right the ratios of `benchmarks.ddp`.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.problem import NETWORKS

RESULTS = Path(__file__).parent / "results"
WIDTH, HEIGHT, MIDDLE = 860, 214, 470
CELL, CELL_HEIGHT, FIRST_CELL = 41, 38, 112
BAR, AXIS, UNIT = 22, 600, 37.0
"""Height of a bar, where bars begin, and the pixels of a ratio of 1."""

STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2430; dominant-baseline: central; }
    .title { font-weight: 600; }
    .note { font-size: 12px; fill: #4a5163; }
    .hex { font: 12px ui-monospace, monospace; text-anchor: middle; }
    .middle { text-anchor: middle; }
    .card { fill: #fbfbfd; stroke: #d5d8e0; }
    .line { stroke: #4a5163; stroke-width: 1.5; fill: none; }
    .dash { stroke: #4a5163; stroke-dasharray: 4 3; }
    .c0 { fill: #bcdcf5; } .c1 { fill: #fbdc9a; } .c2 { fill: #b4e6d2; } .c3 { fill: #f1c6dd; } .c4 { fill: #d9d2f2; }
    .c5 { fill: #f6c4b0; } .c6 { fill: #d5e8a8; } .c7 { fill: #c5ccd8; } .c8 { fill: #e9d8c2; }
    @media (prefers-color-scheme: dark) {
      text { fill: #eceff5; } .note { fill: #b9c0d0; }
      .card { fill: #1b1e27; stroke: #3a3f4d; } .line, .dash { stroke: #b9c0d0; }
      .c0 { fill: #1d5a8c; } .c1 { fill: #7d5a0c; } .c2 { fill: #14664c; } .c3 { fill: #833a63; } .c4 { fill: #554a94; }
      .c5 { fill: #8a4a2b; } .c6 { fill: #56701d; } .c7 { fill: #4a5163; } .c8 { fill: #6b543a; }
    }
"""


def main() -> int:
    """Write the plot to the file that is named, and return the exit code."""
    Path(sys.argv[1]).write_text(plot(), encoding="utf-8")
    return 0


def plot() -> str:
    """Return the plot of what is in the folder of results."""
    hashes, ddp = (json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in ("hashes", "ddp"))
    label = "Left: the hash of the weights on 1 to 8 ranks, one for hpcnn, another each time for PyTorch DDP. "
    label += "Right: training throughput on 2 ranks as a multiple of that of PyTorch DDP, for three networks"
    shapes = "".join(f"  {shape}\n" for shape in (*hash_panel(hashes), *throughput_panel(ddp)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img"\n     aria-label="{label}">\n  <style>{STYLE}  </style>\n'
        f'  <rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>\n{shapes}</svg>\n'
    )


def hash_panel(results: dict[str, Any]) -> list[str]:
    """Return a row of cells per side, a cell per number of ranks; equal hashes have equal colours."""
    shapes = [
        text(20, 26, "SHA-256 of the trained weights, by number of ranks", "title"),
        text(20, 58, "ranks", "note"),
    ]
    colours: dict[str, int] = {}
    for column, ranks in enumerate(results["ranks"]):
        shapes.append(text(FIRST_CELL + (column + 0.5) * CELL, 58, str(ranks), "note middle"))
    for row, (side, hashes) in enumerate(results["hashes"].items()):
        top = 74 + row * (CELL_HEIGHT + 8)
        shapes.append(text(20, top + CELL_HEIGHT / 2, side))
        for column, each in enumerate(hashes):
            colour, x = colours.setdefault(each, len(colours)), FIRST_CELL + column * CELL
            shapes.append(rectangle(x, top, CELL - 2, CELL_HEIGHT, f"c{colour}"))
            shapes.append(text(x + CELL / 2 - 1, top + CELL_HEIGHT / 2, each[:4], "hex"))
    shapes.append(text(20, HEIGHT - 22, "Within a row only the number of ranks differs.", "note"))
    return shapes


def throughput_panel(results: dict[str, Any]) -> list[str]:
    """Return a bar per network: the median of the ratios, with the least and the greatest round."""
    shapes = [text(MIDDLE, 26, f"Training throughput on {results['ranks']} ranks, PyTorch DDP = 1", "title")]
    for row, name in enumerate(NETWORKS):
        ratios, y = results[name]["ratio hpcnn / DDP"], 60 + row * 40
        ratio, least, greatest = statistics.median(ratios), min(ratios), max(ratios)
        middle = y + BAR / 2
        shapes.append(text(MIDDLE, middle, name))
        shapes.append(rectangle(AXIS, y, ratio * UNIT, BAR, "c0"))
        shapes.append(f'<path class="line" d="M{AXIS + least * UNIT:.1f} {middle:g} H{AXIS + greatest * UNIT:.1f}"/>')
        shapes.append(text(AXIS + greatest * UNIT + 6, middle, f"{ratio:.1f}x", "title"))
    shapes.append(f'<path class="dash" d="M{AXIS + UNIT:g} 50 V172"/>')
    shapes.append(text(MIDDLE, HEIGHT - 22, f"Median and range of {len(ratios)} rounds; Adam, gloo.", "note"))
    return shapes


def text(x: float, y: float, content: str, kind: str = "") -> str:
    """Return a text, centred on `y`."""
    return f'<text x="{x:g}" y="{y:g}"' + (f' class="{kind}"' if kind else "") + f">{content}</text>"


def rectangle(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a box with rounded corners."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:.1f}" height="{height:g}" rx="4"/>'


if __name__ == "__main__":
    sys.exit(main())
