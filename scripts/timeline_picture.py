"""Draw some steps of a timeline as a picture: python scripts/timeline_picture.py RUN/timeline.json.gz OUT.svg.

docs/images/timeline.svg is of `mpirun -n 2 python -m hpcnn.train --set run.timeline=true`, steps 22 to 24.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

COLOURS = {
    "data": "#8a6d3b", "forward": "#4c78a8", "backward": "#9467bd", "wait": "#c9c9c9", "reduce": "#e45756",
    "optimizer": "#f2a541", "evaluate": "#54a24b", "save": "#b279a2", "recover": "#d62728", "other": "#e8e8e8",
    "set-up": "#e8e8e8",
}  # fmt: skip
LAYER_COLOUR, STEP_COLOUR = "#a9c4de", "#f4f4f4"
LEFT, WIDTH, ROW, GAP, LETTER = 8, 960, 18, 22, 6.2


@dataclass(frozen=True)
class Slice:
    """One thing that a rank did."""

    process: int
    name: str
    kind: str
    begin: float
    end: float
    step: int


def main() -> int:
    """Draw the picture, and return the exit code."""
    parser = argparse.ArgumentParser(description="Draw some steps of a timeline.")
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=22, help="first step; 22")
    parser.add_argument("--steps", type=int, default=3, help="how many; 3")
    arguments = parser.parse_args()
    with gzip.open(arguments.trace, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    named = [event for event in events if event["ph"] == "M" and event["name"] == "process_name"]
    names = {event["pid"]: event["args"]["name"].partition(" on ")[0] for event in named}
    found = [each for each in slices(events) if arguments.first <= each.step < arguments.first + arguments.steps]
    if not found:
        sys.exit(f"error: {arguments.trace} has none of these steps")
    arguments.out.write_text(drawn(found, names), encoding="utf-8")
    return 0


def slices(events: list[dict[str, Any]]) -> Iterator[Slice]:
    """Yield what main threads did, each with the step that it was part of or came after."""
    opened: dict[int, list[dict[str, Any]]] = defaultdict(list)
    step: dict[int, int] = defaultdict(int)
    for event in events:
        process = event["pid"]
        if event["tid"] != 1:
            continue
        if event["ph"] == "B":
            step[process] = event.get("args", {}).get("step", step[process])
            opened[process].append(event)
        elif event["ph"] == "E":
            begun = opened[process].pop()
            yield Slice(process, begun["name"], begun["cat"], begun["ts"], event["ts"], step[process])


def drawn(found: list[Slice], names: dict[int, str]) -> str:
    """Return the picture: for each rank a row of steps, one of phases and one of layers."""
    zero, end = min(each.begin for each in found), max(each.end for each in found)
    scale = (WIDTH - 2 * LEFT) / (end - zero)
    shapes, top = [], 4
    for process in sorted({each.process for each in found}):
        shapes.append(f'<text x="{LEFT}" y="{top + 13}" font-weight="bold">{escape(names[process])}</text>')
        rows = {kind: top + GAP + number * ROW for number, kind in enumerate(("step", "phase", "layer"))}
        own = [each for each in found if each.process == process]
        shapes += [bar(each, LEFT + (each.begin - zero) * scale, rows[each.kind], scale) for each in own]
        top += GAP + 3 * ROW + 6
    shapes.append(f'<text x="{LEFT}" y="{top + 12}">{(end - zero) / 1000:.2f} ms</text>')
    legend = [name for name in COLOURS if any(each.name == name for each in found)]
    for number, name in enumerate(legend):
        x = LEFT + 90 + 85 * number
        shapes.append(f'<rect x="{x}" y="{top + 2}" width="12" height="12" fill="{COLOURS[name]}"/>')
        shapes.append(f'<text x="{x + 16}" y="{top + 12}">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 22}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )


def bar(each: Slice, x: float, y: float, scale: float) -> str:
    """Return one slice, with its name where there is room."""
    width = (each.end - each.begin) * scale
    colour = {"step": STEP_COLOUR, "layer": LAYER_COLOUR}.get(each.kind) or COLOURS[each.name]
    shape = f'<rect x="{x:.1f}" y="{y}" width="{max(width, 0.3):.1f}" height="{ROW - 2}" fill="{colour}"/>'
    if width < LETTER * len(each.name) + 4:
        return shape
    return shape + f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(each.name)}</text>'


if __name__ == "__main__":
    sys.exit(main())
