"""Charts as SVG. Style sheets alone show the values under the pointer: a page needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from xml.etree.ElementTree import Element

from hpcnn.tools.html import tag
from hpcnn.tools.report.curves import STYLES, Chart, Curve
from hpcnn.tools.report.scales import Scale, epoch_scale, sampled, thinned, value_scale, whole_ticks
from hpcnn.tools.report.values import figure

_WIDTH, _HEIGHT = 400, 245
_TOP, _RIGHT, _BOTTOM = 26, 12, 40
_CHARACTER = 6.4
"""Width of a digit in the labels."""
_MOST_POINTS, _MOST_STOPS = 500, 100
_MOST_READ_OUT = 2
"""Curves whose values stand above the chart while the pointer is on it; of more they are in the tooltip alone."""


def svg_chart(chart: Chart, *, named: bool = True) -> Element:
    """Return a chart as a figure; one without any finite value says so. `named` adds a legend of several curves."""
    title = chart.title
    curves = [curve for curve in chart.curves if curve.known]
    if not curves:
        return tag("figure", tag("figcaption", title), tag("p", "No finite value to show.", class_="note"))
    places = [x for curve in curves for x, _ in curve.points]
    y = value_scale(
        [value for curve in curves for value in curve.known], _HEIGHT - _BOTTOM, _TOP, from_zero=chart.from_zero
    )
    labels = [(tick, f"{tick:,.6g}") for tick in y.ticks(6)]
    left = 14 + _CHARACTER * max(len(label) for _, label in labels)
    x = epoch_scale(min(places), max(places), left, _WIDTH - _RIGHT)
    in_words = " ".join(
        f"{curve.name}: from {figure(curve.known[0])} to {figure(curve.known[-1])}." for curve in curves[:STYLES]
    )
    picture = tag(
        "svg",
        _grid(x, y, labels),
        [_curve(curve, x, y) for curve in reversed(curves)],
        _stops(curves, x, y),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{title}. {in_words}",
    )
    heading = tag("span", title, tag("small", " log scale") if y.log else None)
    names = legend(curves) if named and len(curves) > 1 else None
    return tag("figure", tag("figcaption", heading, names), picture, _gaps(curves))


def legend(curves: Sequence[Curve]) -> Element:
    """Return names and colours of curves; the grey ones have one entry in common."""
    shown = [curve for curve in curves if curve.style < STYLES]
    names = [(curve.name, curve.style) for curve in shown]
    if len(shown) < len(curves):
        names.append((f"{len(curves) - len(shown)} more", STYLES))
    return tag("ul", [tag("li", swatch(style), name) for name, style in names], class_="legend")


def swatch(style: int) -> Element:
    """Return a short line in the colour of a curve."""
    line = tag("line", x1=1, x2=19, y1=5, y2=5, class_=f"curve c{min(style, STYLES)}")
    return tag("svg", line, width=20, height=10, aria_hidden="true")


def _grid(x: Scale, y: Scale, labels: Sequence[tuple[float, str]]) -> Element:
    parts = []
    for tick, label in labels:
        parts.append(tag("line", x1=f"{x.begin:.1f}", x2=f"{x.end:.1f}", y1=f"{y(tick):.1f}", y2=f"{y(tick):.1f}"))
        parts.append(tag("text", label, x=f"{x.begin - 8:.1f}", y=f"{y(tick) + 4:.1f}", text_anchor="end"))
    for tick in whole_ticks(x.low, x.high, 5):
        place, label = x(tick), f"{tick:,.0f}"
        anchor = "end" if place + _CHARACTER * len(label) / 2 > _WIDTH else "middle"  # else it would leave the picture
        parts.append(tag("text", label, x=f"{place:.1f}", y=_HEIGHT - _BOTTOM + 18, text_anchor=anchor))
    parts.append(tag("text", "epoch", x=f"{(x.begin + x.end) / 2:.1f}", y=_HEIGHT - 4, text_anchor="middle"))
    return tag("g", parts, class_="grid")


def _curve(curve: Curve, x: Scale, y: Scale) -> Element:
    """Return the line through the values, broken where there is none; a value between two gaps is a dot."""
    steps: list[str] = []
    dots = []
    points = thinned(curve.points, _MOST_POINTS)
    before = None
    for place, (at, value) in enumerate(points):
        after = points[place + 1][1] if place + 1 < len(points) else None
        if value is not None:
            steps.append(f"{'M' if before is None else 'L'}{x(at):.1f} {y(value):.1f}")
            if before is None and after is None:
                dots.append(tag("circle", cx=f"{x(at):.1f}", cy=f"{y(value):.1f}", r=3.5))
        before = value
    return tag("g", tag("path", d="".join(steps)), dots, class_=f"curve c{min(curve.style, STYLES)}")


def _stops(curves: Sequence[Curve], x: Scale, y: Scale) -> Element:
    """Return a band for each of some epochs, which shows their values while the pointer is on it."""
    tables = [dict(curve.points) for curve in curves]
    places = sorted({at for one in tables for at in one})
    chosen = [places[place] for place in sampled(len(places), _MOST_STOPS)]
    edges = [x(at) for at in chosen]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    starts, ends = [x.begin, *middles], [*middles, x.end]
    return tag(
        "g",
        [
            _stop(curves, [one.get(at) for one in tables], f"epoch {at:,.0f}", (start, x(at), end), y)
            for at, start, end in zip(chosen, starts, ends, strict=True)
        ],
        class_="stops",
    )


def _stop(
    curves: Sequence[Curve], values: Sequence[float | None], where: str, span: tuple[float, float, float], y: Scale
) -> Element:
    start, at = f"{span[0]:.1f}", f"{span[1]:.1f}"
    height = _HEIGHT - _BOTTOM - _TOP
    shown = [(curve, value) for curve, value in zip(curves, values, strict=True) if curve.style < STYLES]
    said = [f"{curve.name} {figure(value)}" for curve, value in shown]
    dots = [
        tag("circle", cx=at, cy=f"{y(value):.1f}", r=3, class_=f"c{curve.style}")
        for curve, value in shown
        if value is not None
    ]
    few = len(curves) <= _MOST_READ_OUT
    read_out = tag("text", " · ".join([where, *said]), x=_WIDTH - _RIGHT, y=14, text_anchor="end") if few else None
    return tag(
        "g",
        tag("rect", x=start, y=_TOP, width=f"{span[2] - span[0]:.1f}", height=height),
        tag("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM),
        dots,
        read_out,
        tag("title", "\n".join([where, *said])),
    )


def _gaps(curves: Sequence[Curve]) -> Element | None:
    said = []
    for curve in curves:
        without = [at for at, value in curve.points if value is None]
        if without:
            many = f"{len(without):,} epochs, the first of them " if len(without) > 1 else ""
            said.append(f"{curve.name}: no finite value in {many}epoch {without[0]:,.0f}")
    return tag("p", "; ".join(said), ".", class_="note gap") if said else None
