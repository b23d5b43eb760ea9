"""Feeds damaged and hostile files of every kind to hpcnn: ``python -m tests.fuzz --cases 10000 --seed 1``.

Each case must end in a HpcnnError that names the file, or in a read of what the file says. All else is a finding: any
other exception, the end of the process, something printed, too much time or memory. The exit code is 1 on findings.
"""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.pool import Outcome, run
from tests.fuzz.sound import available_kinds


def report(outcomes: list[Outcome]) -> str:
    """Return a table of what the cases came to, and the findings."""
    lines = [f"{'kind':<12}{'cases':>8}{'errors':>8}{'reads':>8}{'slowest':>10}{'most MB':>9}{'findings':>10}"]
    for kind in [*dict.fromkeys(one.kind for one in outcomes), "all"]:
        these = [one for one in outcomes if kind in (one.kind, "all")]
        ends = [sum(one.ended == end for one in these) for end in ("error", "read")]
        lines.append(
            f"{kind:<12}{len(these):>8}{ends[0]:>8}{ends[1]:>8}{max(one.seconds for one in these):>8.2f} s"
            f"{max(one.mb for one in these):>9.0f}{sum(bool(one.fault) for one in these):>10}"
        )
    lines += [f"{one.kind} {one.number} ({one.damage}): {one.fault}" for one in outcomes if one.fault]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the cases, print the report, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000, help="in all, shared out evenly among the kinds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that read")
    parser.add_argument("--kinds", nargs="+", default=available_kinds(), choices=available_kinds())
    parser.add_argument("--only", type=int, help="run this case of each kind alone")
    arguments = parser.parse_args(argv)
    each = -(-arguments.cases // len(arguments.kinds))
    numbers = range(each) if arguments.only is None else [arguments.only]
    cases = [(kind, number) for kind in arguments.kinds for number in numbers]
    outcomes = run(cases, arguments.seed, arguments.workers)
    print(report(outcomes))
    return int(any(one.fault for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
