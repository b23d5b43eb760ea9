"""Elements of a page, or of a drawing. Text from files becomes text, never markup: the serializer escapes all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Child = Element | str | None

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
"""What HTML can't hold, and what would turn the direction of the text around it."""


def clean(text: object) -> str:
    r"""Return a text that a page can hold.

    >>> clean("a\x00b\ud800c")
    'a\ufffdb\ufffdc'
    """
    return _UNWRITABLE.sub("\ufffd", str(text))


def tag(name: str, /, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """Return an element. Children that are None are left out; ``class_`` and ``aria_label`` name `class`, `aria-label`.

    >>> to_html(tag("p", "a < b", tag("b", "!"), class_="x"))
    '<p class="x">a &lt; b<b>!</b></p>'
    """
    found = {key.rstrip("_").replace("_", "-"): clean(value) for key, value in attributes.items() if value is not None}
    element = Element(name, found)
    for child in _flat(children):
        if isinstance(child, Element):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + clean(child)
        else:
            element.text = (element.text or "") + clean(child)
    return element


def _flat(children: Iterable[Child | Iterable[Child]]) -> Iterable[Element | str]:
    for child in children:
        if isinstance(child, Element | str):
            yield child
        elif child is not None:
            yield from _flat(child)


def to_html(element: Element) -> str:
    """Return the HTML of an element."""
    return ElementTree.tostring(element, encoding="unicode", method="html")


def table(head: Sequence[Child], rows: Sequence[Sequence[Child]], *, caption: str, class_: str = "") -> Element:
    """Return a table whose first column names the rows. A wide one scrolls by itself, also from the keyboard."""
    body = [
        tag("tr", tag("th", row[0], scope="row"), [cell if _is_cell(cell) else tag("td", cell) for cell in row[1:]])
        for row in rows
    ]
    whole = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])),
        tag("tbody", body),
        class_=class_ or None,
    )
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _is_cell(child: Child) -> bool:
    return isinstance(child, Element) and child.tag == "td"


def section(title: str, *children: Child | Iterable[Child], note: str = "") -> Element:
    """Return a section with its heading, and a sentence below that."""
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else None, *children)
