"""The plot of one kind of scaling as SVG: samples per second, and efficiency, over the number of nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcnn.tools.html import tag
from hpcnn.tools.report.scales import Scale, nice_ticks

Points = Sequence[tuple[int, float]]
"""Numbers of nodes with values."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM, _PANEL = 860, 330, 74, 62, 46, 330
_SECOND = 500
"""Where the second panel begins."""
_COLOURS = ("#1f6fb4", "#c8781a", "#6b8e23", "#8a4fa3")
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2430; }
.title { font-weight: 600; }
.grid { stroke: #d5d8e0; }
.ideal { stroke: #6d7586; stroke-dasharray: 5 4; fill: none; }
.card { fill: #fbfbfd; stroke: #d5d8e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #eceff5; } .card { fill: #1b1e27; stroke: #3a3f4d; } .grid { stroke: #3a3f4d; }
}
"""


def scaling_plot(title: str, rates: Mapping[str, Points], efficiencies: Mapping[str, Points]) -> str:
    """Return the plot of some sides by their labels; the first one's smallest size is the base of the ideal line."""
    sizes = sorted({nodes for points in rates.values() for nodes, _ in points})
    base = next(iter(rates.values()))[0]
    ideal = [(nodes, base[1] * nodes / base[0]) for nodes in sizes]
    speeds = [value for points in [*rates.values(), ideal] for _, value in points]
    shares = [value for points in efficiencies.values() for _, value in points]
    speed = Scale(min(speeds) / 1.15, max(speeds) * 1.15, _HEIGHT - _BOTTOM, _TOP, log=True)
    share = Scale(0.0, max([1.0, *shares]) * 1.08, _HEIGHT - _BOTTOM, _TOP)
    drawing = tag(
        "svg",
        tag("style", _STYLE),
        tag("rect", class_="card", x=0.5, y=0.5, width=_WIDTH - 1, height=_HEIGHT - 1, rx=10),
        _legend(list(rates)),
        _panel(_LEFT, f"{title}: samples per second", sizes, rates, ideal, speed, _speed_ticks(speed), "{:,.0f}"),
        _panel(
            _SECOND,
            f"{title}: efficiency",
            sizes,
            efficiencies,
            [(nodes, 1.0) for nodes in sizes],
            share,
            nice_ticks(0.0, share.high, 5),
            "{:.0%}",
        ),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        width=_WIDTH,
        height=_HEIGHT,
        role="img",
        aria_label=f"{title}: samples per second and efficiency over the number of nodes, for {', '.join(rates)}",
    )
    return ElementTree.tostring(drawing, encoding="unicode") + "\n"


def _speed_ticks(speed: Scale) -> list[float]:
    """Return powers of ten, and their double and fivefold where the scale has few of them."""
    powers = range(math.floor(math.log10(speed.low)), math.ceil(math.log10(speed.high)) + 1)
    factors = (1, 2, 5) if len(powers) < 5 else (1,)
    return [tick for power in powers for factor in factors if speed.low <= (tick := factor * 10.0**power) <= speed.high]


def _legend(labels: Sequence[str]) -> Element:
    parts, x = [], _LEFT
    for place, label in enumerate(labels):
        parts.append(tag("rect", x=x, y=_HEIGHT - 14, width=12, height=4, fill=_COLOURS[place]))
        parts.append(tag("text", label, x=x + 18, y=_HEIGHT - 8))
        x += 36 + 8 * len(label)
    parts.append(tag("line", class_="ideal", x1=x, x2=x + 22, y1=_HEIGHT - 12, y2=_HEIGHT - 12))
    parts.append(tag("text", "ideal", x=x + 28, y=_HEIGHT - 8))
    return tag("g", parts)


def _panel(
    left: int,
    title: str,
    sizes: Sequence[int],
    curves: Mapping[str, Points],
    ideal: Points,
    y: Scale,
    ticks: Sequence[float],
    form: str,
) -> Element:
    x = Scale(sizes[0] / 1.1, sizes[-1] * 1.1, left, left + _PANEL, log=True)
    parts = [tag("text", title, class_="title", x=left, y=28)]
    for tick in ticks:
        at = f"{y(tick):.1f}"
        parts.append(tag("line", class_="grid", x1=left, x2=left + _PANEL, y1=at, y2=at))
        parts.append(tag("text", form.format(tick), x=left - 8, y=f"{y(tick) + 4:.1f}", text_anchor="end"))
    for nodes in sizes:
        label = f"{nodes:,}" + (" nodes" if nodes == sizes[-1] else "")
        parts.append(tag("text", label, x=f"{x(nodes):.1f}", y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"))
    parts.append(tag("path", class_="ideal", d=_path(ideal, x, y)))
    for place, points in enumerate(curves.values()):
        colour = _COLOURS[place]
        parts.append(tag("path", d=_path(points, x, y), fill="none", stroke=colour, stroke_width=2.5))
        for nodes, value in points:
            parts.append(tag("circle", cx=f"{x(nodes):.1f}", cy=f"{y(value):.1f}", r=4, fill=colour))
    return tag("g", parts)


def _path(points: Points, x: Scale, y: Scale) -> str:
    return " ".join(
        f"{'L' if place else 'M'}{x(nodes):.1f} {y(value):.1f}" for place, (nodes, value) in enumerate(points)
    )
