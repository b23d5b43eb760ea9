"""The findings for people, as a table with their fixes below, and for machines, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from hpcnn import __version__
from hpcnn.core.formatting import counted
from hpcnn.runs.display.console import rich_console
from hpcnn.system.output import write_line
from hpcnn.system.terminal import terminal_path
from hpcnn.tools.doctor.evidence import Evidence
from hpcnn.tools.doctor.finding import LEVELS, OK, PROBLEM, WARNING, Finding

_STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}
_NARROW = 60


def show(evidence: Evidence, findings: Sequence[Finding]) -> None:
    """Print the table, and then each fix on a line of its own, to be copied."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    terminal = terminal_path()
    console = rich_console(terminal)
    table = Table(box=box.SIMPLE_HEAD if terminal and console.width >= _NARROW else None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=console.width >= _NARROW)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, _STYLES[finding.level]), finding.check, Text(finding.what))
    console.print(title(evidence), highlight=False, markup=False)
    console.print(table, highlight=False, markup=False)
    for fix in dict.fromkeys(finding.fix for finding in findings if finding.fix):
        names = ", ".join(finding.check for finding in findings if finding.fix == fix)
        write_line(f"to fix {names}:\n  {fix}")
    write_line(summary(findings))


def title(evidence: Evidence) -> str:
    """Return a title with the hosts and ranks.

    Under a launcher that is not MPI's these are not all ranks.
    """
    hosts = list(dict.fromkeys(rank.host for rank in evidence.ranks))
    on = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts, {hosts[0]} to {hosts[-1]}"
    size, known = evidence.launch.size, len(evidence.ranks)
    of = "" if known == size else f" (known of {known} alone)"
    return f"hpcnn {__version__} on {on}, {counted(size, 'rank')}{of}"


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings there are of each kind.

    >>> summary([Finding("memory", "ok", "much"), Finding("BLAS", "warning", "slow"), Finding("GPUs", "ok", "none")])
    '0 problems, 1 warning, 2 ok'
    """
    counts = Counter(finding.level for finding in findings)
    return f"{counted(counts[PROBLEM], PROBLEM)}, {counted(counts[WARNING], WARNING)}, {counts[OK]} ok"


def as_json(evidence: Evidence, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return everything: the worst level, the findings, and the evidence behind them."""
    worst = max((finding.level for finding in findings), key=LEVELS.index, default=OK)
    return {
        "hpcnn": __version__,
        "level": worst,
        "findings": msgspec.to_builtins(findings),
        "evidence": msgspec.to_builtins(evidence),
    }
