"""One HTML page, complete in itself: of one run, or of several beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from hpcnn.tools.html import tag
from hpcnn.tools.report import sections
from hpcnn.tools.report.comparison import comparison
from hpcnn.tools.report.document import document
from hpcnn.tools.report.ranking import best_first, monitor_of
from hpcnn.tools.report.record import RunRecord


def page(runs: Sequence[RunRecord], title: str = "") -> str:
    """Return the page for one run or more."""
    if len(runs) == 1:
        return document(title or runs[0].name, one_run(runs[0], title))
    monitor = monitor_of(runs)
    ordered = best_first(runs, monitor)
    heading = title or f"{len(runs)} runs"
    return document(heading, [tag("header", tag("h1", heading)), *comparison(ordered, monitor)])


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
