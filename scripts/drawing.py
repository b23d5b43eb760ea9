"""What the drawings of the documentation share: a card with the colours of ranks, in light and dark."""

from __future__ import annotations

from collections.abc import Iterable

STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2430; text-anchor: middle; dominant-baseline: central; }
    .title { font-weight: 600; }
    .left { text-anchor: start; }
    .note { font-size: 12px; fill: #4a5163; }
    .hex { font: 12px ui-monospace, monospace; }
    .card { fill: #fbfbfd; stroke: #d5d8e0; }
    .edge { fill: none; stroke: #9aa1b1; stroke-width: 1.5; }
    .node { stroke: #9aa1b1; }
    .sent { stroke: #1f2430; stroke-width: 2.5; }
    .range { stroke: #4a5163; stroke-width: 1.5; }
    .one { stroke: #4a5163; stroke-dasharray: 4 3; }
    .all { fill: #ffffff; }
    .c0 { fill: #bcdcf5; } .c1 { fill: #fbdc9a; } .c2 { fill: #b4e6d2; } .c3 { fill: #f1c6dd; } .c4 { fill: #d9d2f2; }
    .c5 { fill: #f6c4b0; } .c6 { fill: #d5e8a8; } .c7 { fill: #c5ccd8; } .c8 { fill: #e9d8c2; }
    @media (prefers-color-scheme: dark) {
      text { fill: #eceff5; } .note { fill: #c3cad9; }
      .card { fill: #1b1e27; stroke: #3a3f4d; }
      .edge, .node { stroke: #6d7586; } .sent { stroke: #eceff5; } .range, .one { stroke: #b9c0d0; }
      .all { fill: #2a2e3a; }
      .c0 { fill: #1d5a8c; } .c1 { fill: #7d5a0c; } .c2 { fill: #14664c; } .c3 { fill: #833a63; } .c4 { fill: #554a94; }
      .c5 { fill: #8a4a2b; } .c6 { fill: #56701d; } .c7 { fill: #4a5163; } .c8 { fill: #6b543a; }
    }
"""


def card(width: int, height: int, label: str, shapes: Iterable[str]) -> str:
    """Return a drawing on a card; `label` is for those who can't see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img"\n     aria-label="{label}">\n  <style>{STYLE}  </style>\n'
        f'  <rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>\n'
        + "".join(f"  {shape}\n" for shape in shapes)
        + "</svg>\n"
    )


def text(x: float, y: float, content: str, kind: str = "") -> str:
    """Return a text, centred on `y`; `kind` names classes."""
    return f'<text x="{x:g}" y="{y:g}"' + (f' class="{kind}"' if kind else "") + f">{content}</text>"


def box(x: float, y: float, width: float, height: float, kind: str) -> str:
    """Return a box with rounded corners, given its upper left one."""
    return f'<rect class="{kind}" x="{x:.4g}" y="{y:g}" width="{width:.4g}" height="{height:g}" rx="5"/>'
