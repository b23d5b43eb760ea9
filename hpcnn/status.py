"""Shows the progress of runs on a Slurm cluster: ``hpcnn status [RUN|JOBID ...]``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, path_or_name
from hpcnn.cli.serial import console, run_serial
from hpcnn.errors import EXIT_DONE
from hpcnn.system.output import is_lost, write_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from hpcnn.slurm.status import Status


def _parser() -> Parser:
    parser = Parser(
        "hpcnn status",
        "Show the progress of runs, from the queue and from their folders: state and reason for waiting, nodes, "
        "epoch, step, loss, samples/s, remaining training time against remaining wall time, and the number of "
        "restarts. Without RUN: all of your runs in the queue, and the newest in runs/ here.",
        example="hpcnn status runs/digits_mlp --follow",
    )
    parser.add_argument("runs", nargs="*", type=path_or_name, metavar="RUN|JOBID", help="run folder or Slurm job id")
    parser.add_argument("--follow", action="store_true", help="keep showing it until all runs have ended")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return run_serial(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    def look() -> list[Status]:
        from hpcnn.slurm.selection import select_run
        from hpcnn.slurm.status import all_statuses, statuses

        return (
            [one for name in arguments.runs for one in statuses(select_run(name))] if arguments.runs else all_statuses()
        )

    found = look()
    if arguments.follow:
        _follow(look, found, as_json=arguments.json)
    elif arguments.json:
        _print_json(found)
    else:
        _show(found)
    return EXIT_DONE


def _show(found: Sequence[Status]) -> None:
    if not found:
        write_line("no runs: you have none in the queue, and there are none in runs/ here. Start one: hpcnn submit JOB")
    else:
        console().print(_picture(found))


def _picture(found: Sequence[Status]) -> RenderableType:
    from hpcnn.slurm.tables import card, overview

    return card(found[0]) if len(found) == 1 else overview(found, console().width)


def _print_json(found: Sequence[Status]) -> None:
    write_line(json.dumps({"time": time.time(), "runs": [asdict(one) for one in found]}))


def _follow(look: Callable[[], list[Status]], found: list[Status], *, as_json: bool) -> None:
    """Show each change until all runs have ended."""
    from hpcnn.slurm.polling import poll_intervals, retry

    with _display(found, as_json=as_json) as show:
        for pause_s in poll_intervals(longest_s=5.0):
            show(found)
            if is_lost() or not any(one.unfinished for one in found):
                return
            time.sleep(pause_s)
            found = retry(look)


@contextmanager
def _display(found: Sequence[Status], *, as_json: bool) -> Iterator[Callable[[Sequence[Status]], None]]:
    """Yield a function that shows runs: redrawn in place in a terminal, else one line per run that changed."""
    if sys.stdout.isatty() and not as_json:
        from rich.live import Live

        with Live(_picture(found), console=console(), auto_refresh=False) as live:
            yield lambda found: live.update(_picture(found), refresh=True)
        return
    said: dict[str, object] = {}
    yield lambda found: _say_changes(found, said, as_json=as_json)


def _say_changes(found: Sequence[Status], said: dict[str, object], *, as_json: bool) -> None:
    from hpcnn.slurm.tables import line

    changed = [one for one in found if said.get(one.run or one.job_id) != (one.state, one.why, one.step, one.job_id)]
    said.update({one.run or one.job_id: (one.state, one.why, one.step, one.job_id) for one in changed})
    if changed and as_json:
        _print_json(changed)
    elif changed:
        for one in changed:
            write_line(line(one))


if __name__ == "__main__":
    sys.exit(main())
