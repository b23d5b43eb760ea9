"""The time of each rank by phase: rows of bars for few ranks, columns for many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from hpcnn.core.formatting import counted, percent
from hpcnn.tools.html import Child, table, tag
from hpcnn.tools.report.time_accounts import MEANING, TimeAccount
from hpcnn.tools.report.values import seconds

_MOST_ROWS = 16
"""More ranks than these stand side by side as thin columns."""
_MOST_COLUMNS = 128
"""More ranks than these share columns."""
_COLUMN_HEIGHT = 200


def time_of_ranks(account: TimeAccount) -> Element:
    """Return the figure for one account, with a table of what it adds up to."""
    hosts = len(set(account.hosts))
    title = f"{counted(account.ranks, 'rank')} on {counted(hosts, 'node')}, until epoch {account.last_epoch:,}"
    bars = _rows(account) if account.ranks <= _MOST_ROWS else _columns(account)
    return tag(
        "div",
        tag("figure", tag("figcaption", title), bars, tag("p", account.slowest, class_="note")),
        _summary(account),
        class_="time",
    )


def _rows(account: TimeAccount) -> Element:
    totals = account.totals
    several = len(set(account.hosts)) > 1
    rows = []
    for rank in range(account.ranks):
        own = {name: values[rank] for name, values in account.seconds.items()}
        name = f"rank {rank}" + (f" · {account.hosts[rank]}" if several else "")
        rows.append((name, bar(own, max(totals), name), seconds(totals[rank])))
    return named_bars(rows)


def named_bars(rows: Sequence[tuple[str, Element, str]]) -> Element:
    """Return bars below each other, each between its name and its length."""
    cells = [
        cell
        for name, one, length in rows
        for cell in (tag("span", name, class_="name"), one, tag("span", length, class_="length"))
    ]
    return tag("div", cells, class_="bars")


def bar(parts: Mapping[str, float], longest: float, name: str) -> Element:
    """Return one bar, as long as its parts are together of `longest`."""
    start, pieces = 0.0, []
    whole = sum(parts.values()) or 1.0
    for part, value in parts.items():
        if not value:
            continue
        width = 100 * value / (longest or 1.0)
        title = tag("title", f"{name}: {part} {seconds(value)}, {percent(value / whole)}")
        pieces.append(tag("rect", title, x=f"{start:.3f}%", width=f"{width:.3f}%", height="100%", class_=f"p-{part}"))
        start += width
    said = ", ".join(f"{part} {percent(value / whole)}" for part, value in parts.items())
    return tag("svg", pieces, role="img", aria_label=f"{name}: {said}", class_="bar")


def _columns(account: TimeAccount) -> Element:
    """Return one thin column a rank; neighbours share one, with their mean, where there are too many."""
    size = math.ceil(account.ranks / _MOST_COLUMNS)
    starts = range(0, account.ranks, size)
    longest, width = max(account.totals), 100 / len(starts)
    columns = [
        _column(account, range(start, min(start + size, account.ranks)), longest, place * width, width)
        for place, start in enumerate(starts)
    ]
    said = ", ".join(f"{part} {percent(share)}" for part, share in account.shares.items())
    picture = tag("svg", columns, class_="columns", role="img", height=_COLUMN_HEIGHT, aria_label=f"all ranks: {said}")
    middle = f"0 to {seconds(longest)}" + (f", {size} ranks a column" if size > 1 else "")
    ends = ("rank 0", middle, f"rank {account.ranks - 1:,}")
    return tag("div", picture, tag("div", [tag("span", end) for end in ends], class_="ends"))


def _column(account: TimeAccount, ranks: range, longest: float, left: float, width: float) -> Element:
    name = f"rank {ranks[0]} on {account.hosts[ranks[0]]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
    top, pieces, said = 100.0, [], [name]
    for part, values in account.seconds.items():
        mean = sum(values[rank] for rank in ranks) / len(ranks)
        if not mean:
            continue
        height = 100 * mean / (longest or 1.0)
        top -= height
        said.append(f"{part} {seconds(mean)}")
        place = {"x": f"{left + width * 0.06:.3f}%", "y": f"{top:.3f}%"}
        pieces.append(tag("rect", **place, width=f"{width * 0.88:.3f}%", height=f"{height:.3f}%", class_=f"p-{part}"))
    return tag("g", pieces, tag("title", "\n".join(said)))


def _summary(account: TimeAccount) -> Element:
    """Return a table of the groups: what they are, and how much of the time they took."""
    rows: list[list[Child]] = []
    for part, share in account.shares.items():
        values = account.seconds[part]
        least, most = (f"{seconds(end(values))}" for end in (min, max))
        name = tag("span", key(part), part, " ", tag("small", MEANING[part]))
        rows.append([name, percent(share), seconds(sum(values) / account.ranks), least, most])
    head = ["", "share", "mean", "least", "most"]
    return table(head, rows, caption="Time of a rank by what it was spent on", class_="figures")


def key(part: str) -> Element:
    """Return the small square that names the colour of a group."""
    square = tag("rect", width=12, height=12, rx=2, class_=f"p-{part}")
    return tag("svg", square, width=12, height=12, aria_hidden="true", class_="key")
