"""Sweeps over settings of a job: ``hpcnn sweep list FILE``, ``args FILE INDEX``, ``collect DIR``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from hpcnn.cli.arguments import Parser, Subparser, path_argument
from hpcnn.cli.serial import console, run_serial
from hpcnn.errors import EXIT_DONE
from hpcnn.system.output import output, write_line

_FORM = """the file lists values of job settings; all combinations are points:
  [values]
  optimizer.learning_rate = [0.001, 0.01]
  train.batch_size = [32, 64, 128]
or the points themselves, or both:
  [[points]]
  optimizer.learning_rate = 0.1
  train.batch_size = 512"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = Parser(
        "hpcnn sweep",
        "Train one job with different values of some settings in each run, and compare. hpcnn submit JOB --sweep FILE "
        "--at-once 2 submits all runs to a Slurm cluster as one job array; collect then tabulates them.",
        example="hpcnn sweep list slurm/learning_rates.toml",
    )
    parser.epilog = f"{parser.epilog}\n\n{_FORM}"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Subparser)

    def action(name: str, what: str, example: str) -> Subparser:
        form = argparse.RawDescriptionHelpFormatter
        epilog = f"example:\n  hpcnn sweep {name} {example}"
        return actions.add_parser(name, help=what, epilog=epilog, formatter_class=form)

    one = action("list", "print the points of a sweep file, numbered from 0", "slurm/learning_rates.toml")
    one.add_argument("file", type=path_argument, metavar="FILE")
    what = "print the arguments that a point adds to the command, one per line: for scripts"
    one = action("args", what, "slurm/learning_rates.toml 0")
    one.add_argument("file", type=path_argument, metavar="FILE")
    one.add_argument("index", type=int, metavar="INDEX")
    one = action("collect", "print a table of all runs, best first", "runs/rates")
    one.add_argument("folder", type=path_argument, metavar="DIR", help="run folder of the sweep")
    form = one.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of the table")
    form.add_argument("--csv", action="store_true", help="print CSV instead of the table")
    arguments = parser.parse_args(argv)
    chosen = {"list": _list, "args": _args, "collect": _collect}[arguments.action]
    return run_serial(lambda: chosen(arguments))


def _list(arguments: argparse.Namespace) -> int:
    from hpcnn.slurm.sweep import overrides, read_points

    for index, point in enumerate(read_points(arguments.file)):
        write_line(f"{index}  {'  '.join(overrides(point))}")
    return EXIT_DONE


def _args(arguments: argparse.Namespace) -> int:
    from hpcnn.slurm.sweep import overrides, point_at, read_points

    output().reconfigure(encoding="utf-8")  # whatever the locale: a job is UTF-8
    for override in overrides(point_at(read_points(arguments.file), arguments.index)):
        write_line(f"--set\n{override}")
    return EXIT_DONE


def _collect(arguments: argparse.Namespace) -> int:
    from hpcnn.slurm.collect import as_csv, collect, table
    from hpcnn.slurm.folds import across_folds, table_of_folds

    rows = collect(arguments.folder)
    folds = across_folds(rows)
    if arguments.json:
        of_folds = {"folds": [one.as_json() for one in folds]} if folds else {}
        runs = [row.as_json() for row in rows]
        write_line(json.dumps({"sweep": str(arguments.folder), "runs": runs, **of_folds}))
    elif arguments.csv:
        sys.stdout.write(as_csv(rows))
    else:
        console().print(table(rows))
        if folds:
            console().print(table_of_folds(folds))
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
