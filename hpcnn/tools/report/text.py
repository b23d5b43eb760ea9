"""The report as text: tables, curves of one line each, and bars, within the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from hpcnn.core.formatting import counted, percent
from hpcnn.runs.records.time_log import GROUPS
from hpcnn.tools.html import clean
from hpcnn.tools.report.nodes import nodes_in_words
from hpcnn.tools.report.ranking import best_first, differing, monitor_of, short_names
from hpcnn.tools.report.record import VALIDATION, Points, RunRecord
from hpcnn.tools.report.scales import value_scale
from hpcnn.tools.report.time_accounts import TimeAccount
from hpcnn.tools.report.values import NONE, figure, seconds

_BLOCKS, _PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=*#"
_FILLS, _PLAIN_FILLS = (dict(zip(GROUPS, fills, strict=True)) for fills in ("█░▓▒=#-.", "CwRdes-."))
_TOGETHER = "\xa0"
"""A space at which no line breaks."""
_SPACES = str.maketrans(dict.fromkeys("\n\r\t" + _TOGETHER, " "))
_NARROWEST, _WIDEST = 20, 120
_MOST_BARS, _MOST_CLASSES, _MOST_SETTINGS = 16, 20, 20


def text_report(runs: Sequence[RunRecord], title: str, *, width: int, encoding: str) -> Iterator[str]:
    """Yield the lines of a report, none of them longer than `width`."""
    width = max(_NARROWEST, width)
    paper = _Paper(width, blocks=can_show(encoding, _BLOCKS + "".join(_FILLS.values())))
    for line in _one(runs[0], title, paper) if len(runs) == 1 else _several(runs, title, paper):
        # Names come from files: nothing in them may steer the terminal.
        yield clean(line).translate(_SPACES)[:width].rstrip()


class _Paper:
    """What a terminal can show."""

    def __init__(self, width: int, *, blocks: bool) -> None:
        self.width = width
        self.blocks, self.fills = (_BLOCKS, _FILLS) if blocks else (_PLAIN_BLOCKS, _PLAIN_FILLS)


def can_show(encoding: str, text: str) -> bool:
    """Return whether a text can be written in an encoding."""
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True


def _one(run: RunRecord, title: str, paper: _Paper) -> Iterator[str]:
    yield f"{title or run.name}: {run.state}"
    yield from _wrapped(f"{run.path}{f' ({run.why})' if run.why else ''}", paper)
    yield ""
    best, of = run.best(run.monitor), f" of {run.epochs_asked:,}" if run.epochs_asked else ""
    summary = [f"{len(run.epochs):,}{of} epochs", seconds(run.seconds)]
    summary += [counted(run.ranks, "rank")] if run.ranks else []
    summary += [f"{figure(run.samples_per_s)} samples/s"] if run.samples_per_s else []
    summary += [f"best {run.monitor} {figure(best[1])} in epoch {best[0]:,}"] if best else []
    yield from _wrapped(", ".join(summary), paper)
    yield from _values(run, paper)
    yield from _times(run, paper)
    yield from _nodes(run, paper)
    yield from _confusion(run, paper)
    for trouble in run.troubles:
        yield from _wrapped(f"! {trouble}", paper)
    if run.weights_sha256:
        yield f"SHA-256 {run.weights_of}:"
        yield from textwrap.wrap(run.weights_sha256, paper.width)


def _wrapped(text: str, paper: _Paper) -> list[str]:
    return textwrap.wrap(text, min(paper.width, _WIDEST), break_on_hyphens=False)


def _values(run: RunRecord, paper: _Paper) -> Iterator[str]:
    """Yield a line for each value: first, last and best, and its curve as far as there is room."""
    full = [name for value in run.values for name in (value, VALIDATION + value) if run.points(name)]
    rows = []
    for name in [*full, *(["samples_per_s"] if run.points("samples_per_s") else [])]:
        points = run.points(name)
        best = None if name == "samples_per_s" else run.best(name)
        rows.append((name, figure(points[0][1]), figure(points[-1][1]), figure(best[1]) if best else "", points))
    if not rows:
        return
    head = ["", "first", "last", "best"]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(4)]
    room = min(paper.width, _WIDEST) - sum(widths) - 8
    yield ""
    yield _columns(head, widths)
    for *cells, points in rows:
        curve = sparkline(points, min(room, 60), paper.blocks) if room >= 8 else ""
        yield f"{_columns(cells, widths)}  {curve}"
    yield ""


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join([cells[0].ljust(widths[0]), *others])


def sparkline(points: Points, width: int, blocks: str) -> str:
    """Return a curve of one line; what spreads widely by its logarithm, and a space where there is no value.

    >>> sparkline([(1, 1.0), (2, 2.0), (3, None), (4, 3.0)], 10, "▁▂▃▄▅▆▇█")
    '▁▅ █'
    """
    means = []
    width = min(width, len(points))
    for place in range(width):
        stretch = points[place * len(points) // width : (place + 1) * len(points) // width]
        known = [value for _, value in stretch if value is not None]
        means.append(sum(known) / len(known) if known else None)
    known = [mean for mean in means if mean is not None]
    if not known:
        return ""
    scale = value_scale(known, 0.0, 1.0)
    low, high = scale(min(known)), scale(max(known))
    spread = (high - low) or 1.0
    return "".join(
        " " if mean is None else blocks[round((scale(mean) - low) / spread * (len(blocks) - 1))] for mean in means
    )


def _times(run: RunRecord, paper: _Paper) -> Iterator[str]:
    if not run.accounts:
        return
    account = run.accounts[-1]
    shares = account.shares
    parts = [f"{paper.fills[part]} {part} {percent(share)}".replace(" ", _TOGETHER) for part, share in shares.items()]
    yield f"where the time of {counted(account.ranks, 'rank')} went:"
    yield from textwrap.wrap("  ".join(parts), paper.width)
    if account.ranks <= _MOST_BARS:
        yield from _bars(account, paper)
    if account.slowest:
        yield from _wrapped(account.slowest, paper)
    yield ""


def _nodes(run: RunRecord, paper: _Paper) -> Iterator[str]:
    if run.epochs:
        verdict, basis = nodes_in_words(run)
        yield from _wrapped(" ".join([*filter(None, [run.critical_batch]), verdict, *basis]), paper)
        yield ""


def _bars(account: TimeAccount, paper: _Paper) -> Iterator[str]:
    longest = max(account.totals) or 1.0
    names = [f"rank {rank}" for rank in range(account.ranks)]
    room = min(paper.width, 100) - max(map(len, names)) - 12
    for rank, name in enumerate(names):
        end, drawn = 0.0, ""
        for part, values in account.seconds.items():
            end += values[rank]
            drawn += paper.fills[part] * (round(end / longest * room) - len(drawn))
        yield f"{name.ljust(max(map(len, names)))}  {drawn.ljust(max(room, 0))} {seconds(end).rjust(9)}"


def _confusion(run: RunRecord, paper: _Paper) -> Iterator[str]:
    found = run.confusion()
    if found is None:
        return
    samples, epoch, matrix = found
    cells = [[str(int(count)) if count else "." for count in row] for row in matrix]
    width = max(3, *(len(cell) for row in cells for cell in row)) + 1
    if len(matrix) > _MOST_CLASSES or (len(matrix) + 1) * width + 2 > paper.width:
        return
    yield from _wrapped(
        f"confusion matrix, {samples} samples after epoch {epoch:,} (rows: true, columns: predicted)", paper
    )
    yield " " * width + "".join(str(place).rjust(width) for place in range(len(matrix)))
    for place, row in enumerate(cells):
        yield str(place).rjust(width) + "".join(cell.rjust(width) for cell in row)
    yield ""


def _several(runs: Sequence[RunRecord], title: str, paper: _Paper) -> Iterator[str]:
    monitor = monitor_of(runs)
    runs = best_first(runs, monitor)
    names = short_names(runs)
    yield title or f"{len(runs)} runs, best {monitor} first"
    yield ""
    judged = [run.best(monitor) for run in runs]
    rows = [
        [name, run.state, figure(best[1]) if best else NONE, figure(len(run.epochs)), seconds(run.seconds)]
        for name, run, best in zip(names, runs, judged, strict=True)
    ]
    head = ["run", "state", f"best {monitor}", "epochs", "time"]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    over = sum(widths) + 2 * (len(widths) - 1) - paper.width
    widths[0] = max(8, widths[0] - max(over, 0))
    room = min(paper.width, _WIDEST) - sum(widths) - 2 * len(widths)
    yield _columns([head[0][: widths[0]], *head[1:]], widths)
    for row, run in zip(rows, runs, strict=True):
        name = row[0] if len(row[0]) <= widths[0] else "~" + row[0][1 - widths[0] :]
        curve = sparkline(run.points(monitor), min(room, 40), paper.blocks) if room >= 8 else ""
        yield f"{_columns([name, *row[1:]], widths)}  {curve}"
    yield from _settings(runs, names, paper)
    for name, run in zip(names, runs, strict=True):
        for trouble in run.troubles:
            yield from _wrapped(f"! {name}: {trouble}", paper)


def _settings(runs: Sequence[RunRecord], names: Sequence[str], paper: _Paper) -> Iterator[str]:
    known = [(name, run) for name, run in zip(names, runs, strict=True) if run.settings]
    found = differing([run for _, run in known]) if len(known) > 1 else {}
    yield ""
    yield "settings that differ:" if found else "the settings that are known do not differ"
    for setting, values in list(found.items())[:_MOST_SETTINGS]:
        groups: dict[str, list[str]] = {}
        for (name, _), value in zip(known, values, strict=True):
            groups.setdefault(value or "none", []).append(name)
        said = "; ".join(f"{value} ({', '.join(of)})" for value, of in groups.items())
        yield from textwrap.wrap(f"  {setting}: {said}", min(paper.width, _WIDEST), subsequent_indent="    ")
    if len(found) > _MOST_SETTINGS:
        yield f"  and {len(found) - _MOST_SETTINGS:,} more"
