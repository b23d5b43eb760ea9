"""Draw the summation tree of eight shards on 3 ranks and on 5: python -m scripts.tree_picture docs/images/tree.svg."""

from __future__ import annotations

import sys
from pathlib import Path

from hpcnn.core.tree import Subtree, maximal_subtrees, owned_leaves
from scripts.drawing import box, card, text

SHARDS, PANELS = 8, (3, 5)
WIDTH, HEIGHT, LEFT, PANEL = 860, 264, 20, 430
LEAF, BOX_HEIGHT, ROW, TOP = 48, 26, 46, 62


def main() -> int:
    """Write the picture to the file that is named, and return the exit code."""
    Path(sys.argv[1]).write_text(picture(), encoding="utf-8")
    return 0


def picture() -> str:
    """Return the drawing: a panel for each number of ranks."""
    label = "Eight gradient shards under one binary tree of sums, shared out among three ranks and among five"
    shapes = [shape for number, ranks in enumerate(PANELS) for shape in panel(ranks, LEFT + number * PANEL)]
    note = "what a rank contributes: its largest whole sums. The additions are the same on any number of ranks."
    legend = [box(LEFT, HEIGHT - 30, 26, 16, "sent all"), text(LEFT + 34, HEIGHT - 22, note, "note left")]
    return card(WIDTH, HEIGHT, label, shapes + legend)


def panel(ranks: int, left: float) -> list[str]:
    """Return the tree with the colours of the ranks that own its parts whole."""
    owned = [owned_leaves(SHARDS, ranks, rank) for rank in range(ranks)]
    sent = {subtree for own in owned for subtree in maximal_subtrees(SHARDS, own)}
    edges, boxes = [], []

    def place(subtree: Subtree) -> tuple[float, float]:
        """Return the middle of the box of a subtree: leaves on top, the root below."""
        lo, hi = subtree
        depth = (hi - lo).bit_length() - 1
        return left + (lo + hi) / 2 * LEAF, TOP + depth * ROW

    def draw(subtree: Subtree) -> None:
        lo, hi = subtree
        x, y = place(subtree)
        owner = next((rank for rank, (first, end) in enumerate(owned) if first <= lo and hi <= end), None)
        width, name = (LEAF - 8, f"{lo}") if hi - lo == 1 else (LEAF + 4, f"{lo}–{hi - 1}")  # noqa: RUF001
        kind = ("sent" if subtree in sent else "node") + (" all" if owner is None else f" c{owner}")
        boxes.append(box(x - width / 2, y - BOX_HEIGHT / 2, width, BOX_HEIGHT, kind) + text(x, y, name))
        if hi - lo == 1:
            return
        for below in ((lo, (lo + hi) // 2), ((lo + hi) // 2, hi)):
            (above_x, above_y), middle = place(below), y - ROW / 2
            edges.append(f'<path class="edge" d="M{above_x:g} {above_y:g} V{middle:g} H{x:g} V{y:g}"/>')
            draw(below)

    draw((0, SHARDS))
    title = f"{SHARDS} shards of a batch on {ranks} ranks, one colour per rank"
    return [text(left, 28, title, "title left"), *edges, *boxes]


if __name__ == "__main__":
    sys.exit(main())
