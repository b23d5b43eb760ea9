"""One HTML page, complete in itself: of one run, or of several beside each other."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from hpcnn import __version__
from hpcnn.tools.html import tag, to_html
from hpcnn.tools.report import sections
from hpcnn.tools.report.comparison import comparison
from hpcnn.tools.report.ranking import best_first, monitor_of
from hpcnn.tools.report.record import RunRecord


def page(runs: Sequence[RunRecord], title: str = "") -> str:
    """Return the page for one run or more."""
    if len(runs) == 1:
        return _document(title or runs[0].name, one_run(runs[0], title))
    monitor = monitor_of(runs)
    ordered = best_first(runs, monitor)
    heading = title or f"{len(runs)} runs"
    return _document(heading, [tag("header", tag("h1", heading)), *comparison(ordered, monitor)])


def one_run(run: RunRecord, title: str) -> list[Element | None]:
    """Return all that there is to say about a run."""
    badge = tag("span", run.state, class_=f"badge {'bad' if run.state == 'failed' else run.state}")
    header = tag(
        "header",
        tag("h1", title or run.name, " ", badge),
        tag("p", str(run.path), f" · {run.why}" if run.why else None, class_="note"),
        sections.tiles(run),
        sections.weights(run),
    )
    return [header, *sections.body(run)]


def _document(title: str, parts: Iterable[Element | None]) -> str:
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        # Nothing but this page itself: no script, and nothing from elsewhere.
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("title", f"{title} · hpcnn report"),
        tag("style", style),
    )
    footer = tag("footer", f"Written by hpcnn {__version__} on {now}.")
    return "<!doctype html>\n" + to_html(tag("html", head, tag("body", tag("main", parts, footer)), lang="en")) + "\n"
