"""What there is to say about data as one HTML page, complete in itself."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from hpcnn.data.rows import Array
from hpcnn.tools.data.facts import ClassFacts, ColumnFacts, DataFacts
from hpcnn.tools.data.look import Look
from hpcnn.tools.data.text import HEAD, column_cells, summary, words_text
from hpcnn.tools.html import section, table, tag
from hpcnn.tools.report.bars import named_bars
from hpcnn.tools.report.document import document

_MOST_PIXELS = 256
"""Height and width of the largest picture; of larger images every second, third, ... pixel is shown."""
_MOST_COLUMNS, _MOST_CLASSES = 500, 200


def page(look: Look, title: str = "") -> str:
    """Return the page."""
    facts = look.facts
    heading = title or f"The data of {facts.job}"
    parts = [
        tag("header", tag("h1", heading), _tiles(facts)),
        _findings(facts),
        _columns("Inputs of the training data", facts.inputs),
        _classes(facts.classes) if facts.classes else _columns("Targets of the training data", facts.targets),
        _pictures(look.pictures),
        _samples(facts),
    ]
    return document(heading, parts, "data", pictures=True)


def _tiles(facts: DataFacts) -> Element:
    return tag("dl", [tag("div", tag("dt", name), tag("dd", tag("small", value))) for name, value in summary(facts)],
               class_="tiles")  # fmt: skip


def _findings(facts: DataFacts) -> Element:
    if not facts.findings:
        return section("What looks wrong", note="Nothing.")
    said = [tag("li", tag("strong", f"{one.level}: "), one.text) for one in facts.findings]
    return tag("aside", tag("strong", "What looks wrong, or is good to know"), tag("ul", said), class_="troubles")


def _columns(title: str, columns: Sequence[ColumnFacts]) -> Element:
    rows = []
    for column in columns[:_MOST_COLUMNS]:
        cells = column_cells(column)
        if column.kind == "words":
            cells[3] = words_text(column)
        rows.append(cells)
    left = len(columns) - len(rows)
    note = f"The first {len(rows):,} of {len(columns):,}." if left else ""
    return section(title, table(HEAD, rows, caption="Of the rows that were looked at", class_="figures"), note=note)


def _classes(classes: Sequence[ClassFacts]) -> Element:
    most = max(one.training for one in classes) or 1
    rows = []
    for one in classes[:_MOST_CLASSES]:
        held = "" if one.validation is None else f" · {one.validation:,}"
        rect = tag("rect", width=f"{100 * one.training / most:.3f}%", height="100%", class_="p-compute")
        bar = tag("svg", rect, role="img", aria_label=f"{one.name}: {one.training:,}", class_="bar")
        rows.append((one.name, bar, f"{one.training:,}{held}"))
    note = "Targets of each class in the training data" + (
        ", then in the validation data." if classes[0].validation is not None else "."
    )
    return section("Classes", named_bars(rows), note=note)


def _pictures(pictures: Sequence[tuple[str, Array]]) -> Element | None:
    if not pictures:
        return None
    figures = [
        tag("figure", tag("img", src=address(image), alt=text, class_="thumbnail"), tag("figcaption", text))
        for text, image in pictures
    ]
    return section(
        "Pictures", tag("div", figures, class_="thumbnails"),
        note="Samples of the training data, evenly spaced: the number of the sample, and its target.",
    )  # fmt: skip


def _samples(facts: DataFacts) -> Element | None:
    if not facts.rows:
        return None
    rows = [[str(number), *cells] for number, cells in enumerate(facts.rows)]
    return section("The first samples", table(["", *facts.head], rows, caption="Of the training data, as stored"))


def address(image: Array) -> str:
    """Return an image with values in [0, 1], (height, width) or (height, width, 3), as a PNG in a `data:` address."""
    step = -(-max(image.shape[:2]) // _MOST_PIXELS)
    pixels = np.rint(255 * image[::step, ::step]).astype(np.uint8)
    height, width = pixels.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
