"""Draw the rooms of the package and who may import whom, from pyproject.toml: python -m scripts.rooms_picture OUT.svg.

docs/images/rooms.svg is its output.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from scripts.drawing import box, card, text

ROOT = Path(__file__).parents[1]
CAPTIONS = {
    "sklearn": "estimators for scikit-learn",
    "cli": "what commands share",
    "api": "hpcnn.fit, hpcnn.Trainer",
    "keras": "drop-in for Horovod",
    "torch": "PyTorch drop-in",
    "slurm": "jobs on a cluster",
    "tools": "report, doctor, export, …",
    "runs": "running a job: session, checkpoints on disk, logs, display, watchdog",
    "backends": "what computes a job: NumPy, Keras",
    "models": "networks by name",
    "training": "the mathematics of a step: loop, replica, updater, metrics",
    "data": "readers, samples",
    "nn": "layers, losses",
    "optim": "transforms, schedules",
    "job": "the job file",
    "comm": "ranks, exact exchange",
    "storage": "hashed files",
    "core": "summation tree, injected faults, run folder",
    "kernels": "compiled arithmetic",
    "system": "cores, memory, BLAS, terminal",
    "errors": "HpcnnError",
}
SHOWN = ("train", "evaluate", "predict", "report", "submit")
"""The commands that have a box; the others are counted."""
COLOURS = ("c4", "c3", "c3", "c3", "c0", "c0", "c0", "c2", "c2", "c1")
"""Of the rows from the top; the last is that of all others."""
WIDTH, LEFT, BOX, STEP, GAP = 720, 20, 42, 56, 8


def main() -> int:
    """Write the picture to the file that is named, and return the exit code."""
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
    return 0


def picture() -> str:
    """Return the drawing: one row of boxes per layer of import-linter's first contract."""
    rows = [boxes_of(line) for line in layers() if line != "__main__"]
    shapes = [shape for number, boxes in enumerate(rows) for shape in row(boxes, number)]
    height = LEFT + STEP * len(rows) + 28
    label = "The rooms of the package, layer upon layer: each imports only from the layers below it"
    note = text(WIDTH / 2, height - 24, "A room imports from the rows below its own, never from those above.", "note")
    return card(WIDTH, height, label, [*shapes, note])


def layers() -> list[str]:
    """Return the lines of the contract that says who may import whom, the highest first."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (lines,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return list(lines)


def boxes_of(line: str) -> list[tuple[str, str]]:
    """Return name and caption of each box of a layer; the row of commands stands for all of them."""
    names = line.replace("|", " ").replace(":", " ").split()
    if "train" not in names:
        return [(name, CAPTIONS[name]) for name in names]
    rest = [name for name in names if name not in SHOWN]
    return [(name, "command") for name in SHOWN] + [("…", f"{len(rest)} more")]


def row(boxes: list[tuple[str, str]], number: int) -> list[str]:
    """Return the shapes of one row."""
    width = (WIDTH - 2 * LEFT - GAP * (len(boxes) - 1)) / len(boxes)
    top, shapes = LEFT + STEP * number, []
    for place, (name, caption) in enumerate(boxes):
        x = LEFT + place * (width + GAP)
        colour, middle = COLOURS[min(number, len(COLOURS) - 1)], x + width / 2
        shapes.append(box(x, top, width, BOX, f"node {colour}"))
        shapes.append(text(middle, top + 14, name))
        shapes.append(text(middle, top + 30, caption, "note"))
    return shapes


if __name__ == "__main__":
    sys.exit(main())
