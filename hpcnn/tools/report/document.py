"""The frame of an HTML page that is complete in itself: head, style, and who wrote it."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import Element

from hpcnn import __version__
from hpcnn.tools.html import tag, to_html

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def document(title: str, parts: Iterable[Element | None], command: str = "report", *, pictures: bool = False) -> str:
    """Return a page with its style; `command` names what wrote it. `pictures` allows `data:` addresses."""
    now = datetime.datetime.now().strftime("%Y-%m-%d %H:%M")
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        # Nothing but this page itself: no script, and nothing from elsewhere.
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY + ("; img-src data:" if pictures else "")),
        tag("title", f"{title} · hpcnn {command}"),
        tag("style", style),
    )
    footer = tag("footer", f"Written by hpcnn {__version__} on {now}.")
    return "<!doctype html>\n" + to_html(tag("html", head, tag("body", tag("main", parts, footer)), lang="en")) + "\n"
