"""The section of a page about the network: a table of its layers, and a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from hpcnn.errors import HpcnnError
from hpcnn.tools.html import section, table, tag
from hpcnn.tools.report.record import RunRecord, layers_of, mapping
from hpcnn.tools.report.values import whole

MOST_LAYERS = 400
"""With repetitions. A network of more is not built: a page on the folder of a stranger must not take long."""
_OPEN = 24
"""Layers up to which the drawing is shown without a click."""


def network(run: RunRecord) -> Element | None:
    """Return the section; None where the run folder does not tell what the layers are."""
    model = mapping(run.settings.get("model"))
    if model.get("entry"):
        return section("Network", note="A Python function, model.entry, builds it, which a report does not run.")
    layers = _count_named(model) if model.get("name") else count_layers(layers_of(run.settings))
    if not layers or not run.input_shape:
        return None
    if layers > MOST_LAYERS:
        return section("Network", note=f"It has more than {MOST_LAYERS} layers: hpcnn show prints and draws them.")
    try:
        return _built(run, layers)
    except HpcnnError:  # of another version, or damaged: the settings are shown as they are
        return None


def count_layers(layers: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of layers with the repetitions of blocks, from the tables of a job.

    >>> count_layers([{"type": "dense"}, {"type": "block", "repeat": 3, "layers": [{"type": "dense"}] * 2}])
    10
    """
    total = 0
    for layer in layers:
        inner = layer.get("layers")
        within = [one for one in inner if isinstance(one, dict)] if isinstance(inner, list) else []
        total += (1 + count_layers(within)) * (whole(layer.get("repeat")) or 1) if within else 1
    return total


def _count_named(model: Mapping[str, Any]) -> int:
    """Return the number of layers of a known network; 0 if it can't be made of these settings."""
    from hpcnn.core.conversion import convert
    from hpcnn.job.model import Model
    from hpcnn.job.model_options import check_options
    from hpcnn.job.models import OPTIONS
    from hpcnn.models.build import layers_of as named_layers  # NumPy comes with it

    name, options = str(model["name"]), mapping(model.get("options"))
    if name not in OPTIONS:
        return 0
    try:
        check_options(name, options)  # bounds the depth
        return _count(named_layers(convert({"name": name, "options": dict(options)}, Model)))
    except HpcnnError:
        return 0


def _count(layers: Sequence[Any]) -> int:
    return sum(1 + _count(layer.children) for layer in layers)


def _built(run: RunRecord, layers: int) -> Element:
    from hpcnn.job.load import check_table  # NumPy comes with these
    from hpcnn.models.build import build_network
    from hpcnn.tools.show.drawing import network_svg
    from hpcnn.tools.show.table import HEADINGS, network_lines, totals

    model = check_table(dict(run.settings), Path("job.toml")).job.model
    built = build_network(model, run.input_shape)
    rows = [[cells[0].replace("  ", "\u2003"), *cells[1:]] for _, cells in network_lines(built)]
    sums = totals(built)
    said = f"{sums['parameters']:,} parameters, {sums['multiply-adds']:,} multiply-adds of a sample, forward."
    drawing = tag(
        "details",
        tag("summary", "Drawing"),
        tag("div", network_svg(built, run.name), class_="drawing", tabindex="0", role="region", aria_label="Drawing"),
        open="" if layers <= _OPEN else None,
    )
    listed = table(HEADINGS, rows, caption="Layers, first to last", class_="figures layers")
    return section("Network", listed, drawing, note=said)
