"""A network as an SVG drawing: a box for each layer, and a line for each of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcnn.core.formatting import counted
from hpcnn.nn.graph import INPUT
from hpcnn.nn.layers.parts import InputPart, OutputRow
from hpcnn.nn.network import Network
from hpcnn.tools.html import tag
from hpcnn.tools.show.layout import BOX_HEIGHT, BOX_WIDTH, Box, Line, Point, layout_of
from hpcnn.tools.show.rows import HEAD, Row, rows_of
from hpcnn.tools.show.table import shape_text

STYLE = """
svg.network text { font: 13px system-ui, sans-serif; fill: #1f2430; text-anchor: middle; }
svg.network .name { font-weight: 600; }
svg.network .facts { font-size: 11.5px; fill: #4a5163; }
svg.network .card { fill: #fbfbfd; stroke: #d5d8e0; }
svg.network .layer { fill: #ffffff; stroke: #9aa1b1; }
svg.network .learns { fill: #bcdcf5; }
svg.network .edge { fill: none; stroke: #6d7586; stroke-width: 1.5; stroke-linejoin: round; }
svg.network .skip { stroke: #c9480b; }
svg.network polygon { fill: #6d7586; }
svg.network polygon.skip { fill: #c9480b; stroke: none; }
@media (prefers-color-scheme: dark) {
  svg.network text { fill: #eceff5; } svg.network .facts { fill: #c3cad9; }
  svg.network .card { fill: #1b1e27; stroke: #3a3f4d; }
  svg.network .layer { fill: #2a2e3a; stroke: #6d7586; } svg.network .learns { fill: #1d5a8c; }
  svg.network .edge { stroke: #b9c0d0; } svg.network .skip { stroke: #ff9157; }
  svg.network polygon { fill: #b9c0d0; } svg.network polygon.skip { fill: #ff9157; }
}
"""
_NAME_LENGTH, _FACTS_LENGTH = 32, 42
_ARROW = 4.0


def svg_file(network: Network, title: str) -> str:
    """Return the drawing as the text of a file, complete in itself."""
    drawing = network_svg(network, title)
    drawing.set("xmlns", "http://www.w3.org/2000/svg")
    drawing.insert(2, tag("style", STYLE))
    return ElementTree.tostring(drawing, encoding="unicode") + "\n"


def network_svg(network: Network, title: str) -> Element:
    """Return the drawing of a network, to be shown with the rules of `STYLE`."""
    boxes = boxes_of(network)
    layout = layout_of(boxes)
    title = f"The network of {title}"
    return tag(
        "svg",
        tag("title", title),
        tag("desc", " ".join(_in_words(boxes))),
        tag("rect", x=0.5, y=0.5, width=f"{layout.width - 1:g}", height=f"{layout.height - 1:g}", rx=10, class_="card"),
        [_edge(line) for line in layout.lines],
        [_box(box, corner) for box, corner in zip(boxes, layout.corners, strict=True)],
        viewBox=f"0 0 {layout.width:g} {layout.height:g}",
        width=f"{layout.width:g}",
        height=f"{layout.height:g}",
        role="img",
        aria_label=title,
        class_="network",
    )


def boxes_of(network: Network) -> list[Box]:
    """Return what is drawn: the input, each layer, and the activation behind them if there is one."""
    rows = {row.name: row for row in reversed(_flat(rows_of(network)))}  # a layer may have the name of the last row
    boxes = [Box(INPUT, "", shape_text(network.input_shape), ())]
    for node in network.nodes:
        if isinstance(node.layer, InputPart):
            boxes.append(Box(node.layer.name, INPUT, shape_text(node.output_shape), (0,)))
            continue
        if isinstance(node.layer, OutputRow):
            boxes += [
                Box(f"{HEAD} {output.name}", output.head, shape_text(output.shape), (source + 1,))
                for output, source in zip(network.outputs, node.sources, strict=True)
            ]
            continue
        row = rows[node.layer.name]
        sources = tuple(source + 1 for source in node.sources)
        boxes.append(Box(row.name, row.kind, _facts(row), sources, learns=bool(row.trainable)))
    if network.head != "linear":
        boxes.append(Box(HEAD, network.head, shape_text(network.output_shape), (len(boxes) - 1,)))
    return boxes


def _flat(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of layers, without those of the blocks around them."""
    return [one for row in rows for one in (_flat(row.below) if row.below else [row])]


def _facts(row: Row) -> str:
    assert row.shape is not None
    facts = [shape_text(row.shape)]
    if row.shares:
        facts.append(f"parameters of {row.shares}")
    elif row.parameters:
        facts.append(counted(row.parameters, "parameter") + ("" if row.trainable else ", frozen"))
    return " · ".join(facts)


def _in_words(boxes: Sequence[Box]) -> list[str]:
    said = []
    for box in boxes:
        takes = f", takes {' and '.join(boxes[source].name for source in box.sources)}" if box.sources else ""
        said.append(f"{box.name}: {' · '.join(filter(None, (box.kind, box.facts)))}{takes}.")
    return said


def _box(box: Box, corner: Point) -> Element:
    x, y = corner
    middle = f"{x + BOX_WIDTH / 2:g}"
    facts = " · ".join(filter(None, (box.kind, box.facts)))
    return tag(
        "g",
        tag("title", f"{box.name}: {facts}"),
        tag(
            "rect",
            x=f"{x:g}",
            y=f"{y:g}",
            width=f"{BOX_WIDTH:g}",
            height=f"{BOX_HEIGHT:g}",
            rx=6,
            class_="layer learns" if box.learns else "layer",
        ),
        tag("text", _shortened(box.name, _NAME_LENGTH), x=middle, y=f"{y + 18:g}", class_="name"),
        tag("text", _shortened(facts, _FACTS_LENGTH), x=middle, y=f"{y + 35:g}", class_="facts"),
    )


def _shortened(text: str, width: int) -> str:
    """Return a text that is cut in its middle, where names of repetitions are most alike, to fit `width`.

    >>> _shortened("encoder_attention_query_12", 16), _shortened("dense", 16)
    ('encoder_…uery_12', 'dense')
    """
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def _edge(line: Line) -> Element:
    points = " ".join(f"{x:g},{y:g}" for x, y in line.points)
    x, y = line.points[-1]
    arrow = f"{x:g},{y:g} {x - _ARROW:g},{y - 2 * _ARROW:g} {x + _ARROW:g},{y - 2 * _ARROW:g}"
    kind = " skip" if line.skips else ""
    return tag(
        "g",
        tag("polyline", points=points, class_=f"edge{kind}"),
        tag("polygon", points=arrow, class_=kind.strip() or None),
    )
