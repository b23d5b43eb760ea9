"""The sections of a page that set several runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from hpcnn.runs.records.time_log import GROUPS
from hpcnn.tools.html import Child, section, table, tag
from hpcnn.tools.report import sections
from hpcnn.tools.report.bars import bar, key, named_bars
from hpcnn.tools.report.charts import legend, svg_chart, swatch
from hpcnn.tools.report.curves import Curve, charts_of_runs
from hpcnn.tools.report.ranking import MOST_SETTINGS, differing, short_names
from hpcnn.tools.report.record import RunRecord
from hpcnn.tools.report.values import NONE, figure, seconds

_MOST_CURVES = 60
_MOST_DETAILS = 40


def comparison(runs: Sequence[RunRecord], monitor: str) -> list[Element | None]:
    """Return the sections for runs that are given the best first; None for what there is nothing to say on."""
    names = short_names(runs)
    first = _order(runs, names, monitor), _settings(runs, names)
    return [*first, _curves(runs, names), _times(runs, names), _details(runs, names)]


def _swatched(place: int, name: str) -> Element:
    return tag("span", swatch(place), " ", name, class_="run")


def _order(runs: Sequence[RunRecord], names: Sequence[str], monitor: str) -> Element:
    first: dict[str, int] = {}
    rows: list[list[Child]] = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        best = run.best(monitor)
        sha = run.weights_sha256
        before = first.setdefault(sha, place) if sha else place
        same = tag("small", f" same as {names[before]}") if before != place else None
        rows.append(
            [
                _swatched(place, name),
                run.state,
                figure(best[1]) if best else NONE,
                f"{best[0]:,}" if best else NONE,
                figure(len(run.epochs)),
                seconds(run.seconds),
                figure(run.samples_per_s),
                figure(run.ranks),
                tag("td", tag("code", sha[:12], title=sha), same),
            ]
        )
    head = ["run", "state", f"best {monitor}", "in epoch", "epochs", "time", "samples/s", "ranks", "SHA-256 of weights"]
    return section("Best first", table(head, rows, caption=f"The runs by their best {monitor}", class_="figures order"))


def _settings(runs: Sequence[RunRecord], names: Sequence[str]) -> Element | None:
    known = [(place, run) for place, run in enumerate(runs) if run.settings]
    if len(known) < 2:
        return None
    found = differing([run for _, run in known])
    if not found:
        return section("Settings", note="All runs have the same settings.")
    rows: list[list[Child]] = [
        [name, *(tag("td", value, class_="setting") for value in values)]
        for name, values in list(found.items())[:MOST_SETTINGS]
    ]
    head: list[Child] = ["setting", *(_swatched(place, names[place]) for place, _ in known)]
    caption = "All other settings are the same."
    if len(found) > MOST_SETTINGS:
        caption = f"The first {MOST_SETTINGS} of {len(found):,}."
    return section("Settings that differ", table(head, rows, caption=caption, class_="settings"))


def _curves(runs: Sequence[RunRecord], names: Sequence[str]) -> Element | None:
    charts = [svg_chart(one, named=False) for one in charts_of_runs(runs[:_MOST_CURVES], names[:_MOST_CURVES])]
    note = f"Curves of the first {_MOST_CURVES} runs." if len(runs) > _MOST_CURVES else ""
    if not charts:
        return None
    key_of_runs = legend([Curve(name, [], place) for place, name in enumerate(names)])
    return section("Learning curves", key_of_runs, tag("div", charts, class_="charts"), note=note)


def _times(runs: Sequence[RunRecord], names: Sequence[str]) -> Element | None:
    """Return one bar for each run: the mean of its ranks, under its last set of ranks."""
    last = {name: run.accounts[-1] for run, name in zip(runs, names, strict=True) if run.accounts}
    if not last:
        return None
    rows = [
        (f"{name} · {account.ranks} ranks" if account.ranks > 1 else name, bar(account.shares, 1.0, name), "")
        for name, account in last.items()
    ]
    used = [part for part in GROUPS if any(part in account.seconds for account in last.values())]
    legend = tag("ul", [tag("li", key(part), part) for part in used], class_="legend")
    note = "Share of each in the time of all ranks."
    return section("Where the time went", tag("figure", legend, named_bars(rows)), note=note)


def _details(runs: Sequence[RunRecord], names: Sequence[str]) -> Element:
    parts = [
        tag("details", tag("summary", _swatched(place, name), f" · {run.state}"), *_about(run), class_="about")
        for place, (run, name) in enumerate(zip(runs[:_MOST_DETAILS], names, strict=False))
    ]
    more = f"Of the first {_MOST_DETAILS} runs." if len(runs) > _MOST_DETAILS else ""
    return section("Each run", parts, note=more)


def _about(run: RunRecord) -> list[Element | None]:
    path = tag("p", str(run.path), f" · {run.why}" if run.why else None, class_="note")
    return [path, sections.tiles(run), sections.weights(run), *sections.body(run)]
