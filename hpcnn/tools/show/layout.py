"""Where the boxes and lines of a drawn network are: layers from top to bottom, each below all that it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

BOX_WIDTH, BOX_HEIGHT = 250.0, 44.0
_GAP_X, _GAP_Y, _MARGIN = 24.0, 30.0, 20.0
_LANE = 14.0
"""Between lines beside the boxes."""
_ASIDE, _BELOW, _ABOVE, _APART = 30.0, 4.0, 10.0, 3.0
"""Where such a line leaves and enters: right of the middle of a box, and so far below or above it; and how far apart
lines of different lanes are there."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A box to be drawn. Those that it takes are numbers of boxes before it."""

    name: str
    kind: str
    facts: str
    """Shape and parameters."""
    sources: tuple[int, ...]
    learns: bool = False


@dataclass(frozen=True)
class Line:
    """From the box `source` to the box `target`."""

    source: int
    target: int
    points: Sequence[Point]
    skips: bool
    """Whether it passes other boxes."""


@dataclass(frozen=True)
class Layout:
    """Upper left corners of boxes, and lines between them."""

    width: float
    height: float
    corners: Sequence[Point]
    lines: Sequence[Line]


def layout_of(boxes: Sequence[Box]) -> Layout:
    """Return the layout of boxes: each on the level below the lowest that it takes, and side by side on one level.

    A line to the level below goes straight. A longer one goes beside all boxes, in a lane of its own.

    >>> boxes = [Box("a", "", "", ()), Box("b", "", "", (0,)), Box("c", "", "", (0, 1))]
    >>> [(line.source, line.target, line.skips) for line in layout_of(boxes).lines]
    [(0, 1, False), (0, 2, True), (1, 2, False)]
    """
    levels: list[int] = []
    for box in boxes:
        levels.append(1 + max((levels[source] for source in box.sources), default=-1))
    rows: dict[int, list[int]] = defaultdict(list)
    for number, level in enumerate(levels):
        rows[level].append(number)
    widest = max(map(len, rows.values()))
    inner = widest * BOX_WIDTH + (widest - 1) * _GAP_X
    corners: list[Point] = [(0.0, 0.0)] * len(boxes)
    for level, row in rows.items():
        left = _MARGIN + (inner - len(row) * BOX_WIDTH - (len(row) - 1) * _GAP_X) / 2
        for place, number in enumerate(row):
            corners[number] = (left + place * (BOX_WIDTH + _GAP_X), _MARGIN + level * (BOX_HEIGHT + _GAP_Y))
    lines, lanes = _lines(boxes, levels, corners, _MARGIN + inner)
    width = _MARGIN + inner + lanes * _LANE + _MARGIN
    height = 2 * _MARGIN + len(rows) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y
    return Layout(width, height, corners, lines)


def _lines(
    boxes: Sequence[Box], levels: Sequence[int], corners: Sequence[Point], right: float
) -> tuple[list[Line], int]:
    """Return all lines, and how many lanes there are right of the boxes."""
    lines: list[Line] = []
    lanes: list[list[tuple[int, int]]] = []
    for target, box in enumerate(boxes):
        for source in dict.fromkeys(box.sources):
            if levels[target] == levels[source] + 1:
                points, skips = _straight(corners[source], corners[target]), False
            else:
                lane = _free_lane(lanes, (levels[source], levels[target]))
                points, skips = _around(corners[source], corners[target], lane, right), True
            lines.append(Line(source, target, points, skips))
    return lines, len(lanes)


def _free_lane(lanes: list[list[tuple[int, int]]], span: tuple[int, int]) -> int:
    for number, lane in enumerate(lanes):
        if all(span[0] >= end or start >= span[1] for start, end in lane):
            lane.append(span)
            return number
    lanes.append([span])
    return len(lanes) - 1


def _straight(source: Point, target: Point) -> list[Point]:
    x1, x2 = source[0] + BOX_WIDTH / 2, target[0] + BOX_WIDTH / 2
    y1, y2 = source[1] + BOX_HEIGHT, target[1]
    return [(x1, y1), (x2, y2)] if x1 == x2 else [(x1, y1), (x1, (y1 + y2) / 2), (x2, (y1 + y2) / 2), (x2, y2)]


def _around(source: Point, target: Point, lane: int, right: float) -> list[Point]:
    x1, x2, x3 = source[0] + BOX_WIDTH / 2 + _ASIDE, right + (lane + 1) * _LANE, target[0] + BOX_WIDTH / 2 + _ASIDE
    y1, y2 = source[1] + BOX_HEIGHT, target[1]
    apart = _APART * (lane % 4)
    below, above = y1 + _BELOW + apart, y2 - _ABOVE - apart
    return [(x1, y1), (x1, below), (x2, below), (x2, above), (x3, above), (x3, y2)]
