"""Curves and colours of a report."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

import pytest

from hpcnn.runs.records.time_log import GROUPS
from hpcnn.tools import report
from hpcnn.tools.report.charts import svg_chart
from hpcnn.tools.report.curves import STYLES, Chart, Curve
from hpcnn.tools.report.scales import Point, nice_ticks, sampled, thinned, value_scale, whole_ticks

CSS = (Path(report.__file__).parent / "report.css").read_text()


def path_of(figure: Element) -> list[tuple[str, float, float]]:
    """Return the steps of the only curve: M or L, and where to."""
    (path,) = figure.iter("path")
    return [(kind, float(x), float(y)) for kind, x, y in re.findall(r"([ML])(\S+) ([\d.-]+)", path.get("d", ""))]


def texts(figure: Element) -> list[str]:
    grid = next(one for one in figure.iter("g") if one.get("class") == "grid")
    return ["".join(one.itertext()) for one in grid.iter("text")]


def test_a_curve_goes_through_its_values() -> None:
    steps = path_of(svg_chart(Chart("loss", [Curve("a", [(1, 0.0), (2, 10.0), (3, 5.0)], 0)])))
    assert [kind for kind, _, _ in steps] == ["M", "L", "L"]
    (_, left, bottom), (_, middle, top), (_, right, between) = steps
    assert middle - left == pytest.approx(right - middle)
    assert (bottom + top) / 2 == pytest.approx(between, abs=0.1)
    assert bottom > between > top


def test_a_gap_breaks_the_curve_and_a_lone_value_is_a_dot() -> None:
    figure = svg_chart(Chart("loss", [Curve("a", [(1, 1.0), (2, 2.0), (3, None), (4, 2.0), (5, None)], 0)]))
    assert [kind for kind, _, _ in path_of(figure)] == ["M", "L", "M"]
    curve = next(one for one in figure.iter("g") if (one.get("class") or "").startswith("curve"))
    assert len(list(curve.iter("circle"))) == 1
    assert "a: no finite value in 2 epochs, the first of them epoch 3." in "".join(figure.itertext())


def test_one_epoch() -> None:
    figure = svg_chart(Chart("loss", [Curve("a", [(7, 0.25)], 0)]))
    assert "7" in texts(figure)
    assert len(path_of(figure)) == 1


def test_no_finite_value() -> None:
    figure = svg_chart(Chart("loss", [Curve("a", [(1, None)], 0)]))
    assert "No finite value to show." in "".join(figure.itertext())
    assert not list(figure.iter("svg"))


@pytest.mark.parametrize(
    ("values", "log"), [([1.0, 0.01], True), ([1.0, 0.1], False), ([1.0, 0.0], False), ([100.0, -1.0], False)]
)
def test_what_spreads_widely_is_shown_by_its_logarithm(values: list[float], log: bool) -> None:
    figure = svg_chart(Chart("loss", [Curve("a", list(enumerate(values, 1)), 0)]))
    assert ("log scale" in "".join(figure.itertext())) is log


def test_from_zero() -> None:
    curve = Curve("a", [(1, 0.001), (2, 1.0)], 0)
    assert "0" in texts(svg_chart(Chart("rate", [curve], from_zero=True)))
    assert "log scale" not in "".join(svg_chart(Chart("rate", [curve], from_zero=True)).itertext())
    assert "0" not in texts(svg_chart(Chart("rate", [curve])))


@pytest.mark.parametrize("named", [True, False])
def test_the_legend(named: bool) -> None:
    curves = [Curve(f"run {place}", [(1, 1.0), (2, float(place))], place) for place in range(STYLES + 3)]
    figure = svg_chart(Chart("loss", curves), named=named)
    names = ["".join(one.itertext()) for one in figure.iter("li")]
    assert names == ([f"run {place}" for place in range(STYLES)] + ["3 more"] if named else [])
    classes = [one.get("class") for one in figure.iter("g")]
    assert classes.count(f"curve c{STYLES}") == 3


def test_labels_stay_within_the_picture() -> None:
    figure = svg_chart(Chart("loss", [Curve("a", [(1, 1.0), (1_000_000, 2.0)], 0)]))
    last = next(one for one in figure.iter("text") if one.text == "1,000,000")
    assert last.get("text-anchor") == "end"


def test_extreme_values_have_a_scale() -> None:
    for values in ([1e99, -1e99], [1e-300, 1e-300], [0.0, 0.0], [5e-324, 1e99], [1e15, 1e15 + 1]):
        scale = value_scale(values, 200.0, 0.0)
        assert all(0.0 <= scale(value) <= 200.0 for value in values)
        assert len(scale.ticks(5)) <= 12


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 7.0), (0.88, 0.99), (1e-9, 2e-9), (1e6, 1e6 + 3)])
def test_ticks_are_few_round_and_within(low: float, high: float) -> None:
    ticks = nice_ticks(low, high, 6)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in ticks)


@pytest.mark.parametrize("last", [1, 2, 5, 40, 999, 12345])
def test_epochs_have_whole_ticks_from_the_first_one(last: int) -> None:
    ticks = whole_ticks(1, last, 5)
    assert ticks[0] == 1
    assert all(tick == int(tick) <= last for tick in ticks)
    assert len(ticks) <= 7


def test_thinning_keeps_ends_spikes_and_gaps() -> None:
    points: list[Point] = [(place, 1.0) for place in range(10_000)]
    points[5000], points[7000], points[9_998] = (5000, 99.0), (7000, -99.0), (9_998, None)
    kept = thinned(points, 400)
    assert len(kept) < 500
    assert kept == sorted(kept, key=lambda point: point[0])
    assert {(5000, 99.0), (7000, -99.0), (9_998, None), points[0], points[-1]} <= set(kept)
    assert thinned(points[:400], 400) == points[:400]


def test_sampling_keeps_the_ends() -> None:
    for count in (2, 99, 100, 101, 12_345):
        places = sampled(count, 100)
        assert (places[0], places[-1]) == (0, count - 1)
        assert len(places) == min(count, 100)


# -------------------------------------------------------------------------------------------------------------- colours


def colours(scheme: str) -> dict[str, str]:
    """Return the variables of the light or the dark look."""
    light, dark = (match[1] for match in re.finditer(r":root \{(.*?)\}", CSS.partition("@media print")[0], re.DOTALL))
    found = dict(re.findall(r"--([\w-]+): (#\w{6});", light))
    return found | (dict(re.findall(r"--([\w-]+): (#\w{6});", dark)) if scheme == "dark" else {})


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def mixed(colour: str, ground: str, share: float) -> str:
    parts = [(int(colour[at : at + 2], 16), int(ground[at : at + 2], 16)) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in parts)


def test_the_measure_of_contrast() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    look = colours(scheme)
    grounds = [look["page"], look["card"]]
    pairs = [(look[text], ground) for text in ("text", "soft") for ground in grounds]
    pairs += [(look["text"], look["faint"]), (look["accent"], look["faint"])]
    pairs += [(look[name], look[f"{name}-back"]) for name in ("good", "warn", "bad")]
    strongest = re.findall(r"var\(--(right|wrong)\) calc\(var\(--strength\) \* ([\d.]+)\)", CSS)
    assert len(strongest) == 2
    pairs += [(look["text"], mixed(look[name], look["card"], float(share))) for name, share in strongest]
    assert [(pair, contrast(*pair)) for pair in pairs if contrast(*pair) < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_can_be_seen(scheme: str) -> None:
    look = colours(scheme)
    curves = [look[f"c{style}"] for style in range(STYLES)]
    assert len(set(curves)) == STYLES
    assert [colour for colour in curves if contrast(colour, look["card"]) < 3] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_each_group_has_a_colour(scheme: str) -> None:
    assert set(GROUPS) <= colours(scheme).keys()
    assert all(f".p-{group} {{ fill: var(--{group}); }}" in CSS for group in GROUPS)
