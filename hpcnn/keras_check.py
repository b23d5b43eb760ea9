"""Shows how to port a Horovod script to hpcnn: ``hpcnn keras-check SCRIPT``."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, path_argument
from hpcnn.cli.serial import run_serial
from hpcnn.errors import EXIT_DONE, EXIT_FAILURE
from hpcnn.system.output import write_line

if TYPE_CHECKING:
    from pathlib import Path

    from hpcnn.keras.check.edits import Change


def _parser() -> Parser:
    parser = Parser(
        "hpcnn keras-check",
        "Show each line of a script for Horovod's Keras or TensorFlow 2 API that must change to run on Keras 3 with "
        "hpcnn.keras, and the new line. The script is read, not run. The exit code is 0 if nothing must change, 1 if "
        "something must, 2 if the script can't be read.",
        example="python -m hpcnn.keras_check train.py --diff | patch train.py",
    )
    parser.add_argument("scripts", nargs="+", type=path_argument, metavar="SCRIPT", help="Python script")
    parser.add_argument(
        "--diff",
        action="store_true",
        help="print a patch instead of the list; changes that need a decision go to standard error",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return run_serial(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from hpcnn.keras.check.script import check, read

    found = False
    for path in arguments.scripts:
        source = read(path)
        changes = check(source, str(path))
        found = found or bool(changes)
        if arguments.diff:
            _print_diff(path, source, changes)
        else:
            for change in changes:
                _print(path, change)
    return EXIT_FAILURE if found else EXIT_DONE


def _print(path: Path, change: Change) -> None:
    for number, line in enumerate(change.old, change.line):
        write_line(f"{path}:{number}: {line}")
    for line in change.new or []:
        write_line(f"    change to: {line}")
    if change.new == []:
        write_line("    delete")
    for why in change.why:
        write_line(f"    {'note' if change.new is not None else 'decide'}: {why}")


def _print_diff(path: Path, source: str, changes: Sequence[Change]) -> None:
    from hpcnn.keras.check.edits import rewritten

    old, new = (text.removesuffix("\n").split("\n") for text in (source, rewritten(source, changes)))
    for line in difflib.unified_diff(old, new, str(path), str(path), lineterm=""):
        write_line(line)
    for change in changes:
        for why in change.why if change.new is None else []:
            sys.stderr.write(f"{path}:{change.line}: {change.old[0].strip()}: {why}\n")


if __name__ == "__main__":
    sys.exit(main())
