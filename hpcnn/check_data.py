"""Shows what a job will see of its data: ``hpcnn data JOB [-o FILE] [--json]``, or ``python -m hpcnn.data JOB``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument, whole_number
from hpcnn.cli.serial import run_serial
from hpcnn.comm.launcher import detect_launch
from hpcnn.errors import EXIT_DONE, HpcnnError

if TYPE_CHECKING:
    from hpcnn.tools.data.look import Look


def _parser() -> Parser:
    parser = Parser(
        "hpcnn data",
        "Show the data of a job as its training would see them: samples, shapes, ranges, classes, the first rows, and "
        "what looks wrong, such as constant columns, inputs that give the target away, samples on both sides of the "
        "split, and classes that are missing. Large data are looked at in part.",
        example="hpcnn data jobs/digits_mlp.toml",
    )
    add_job_arguments(parser)
    parser.add_argument("-o", "--out", type=path_argument, metavar="FILE", help="write a page with pictures, too")
    parser.add_argument("--json", action="store_true", help="print JSON in place of text")
    parser.add_argument(
        "--rows",
        type=whole_number(1),
        metavar="N",
        help="most samples of each part that are looked at; default: 100000, and fewer of large ones",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 also where the data look wrong."""
    arguments = _parser().parse_args(argv)
    return run_serial(lambda: _run(arguments) if detect_launch().rank == 0 else EXIT_DONE)


def _run(arguments: argparse.Namespace) -> int:
    from hpcnn.tools.data.look import MOST_ROWS, look

    if arguments.out is not None:
        _check_page(arguments.out)
    found = look(arguments.job, arguments.overrides, arguments.rows or MOST_ROWS)
    _print(found, as_json=arguments.json)
    if arguments.out is not None:
        _write_page(found, arguments.out, says=not arguments.json)
    return EXIT_DONE


def _check_page(path: Path) -> None:
    if path.is_dir() or path.suffix.lower() != ".html":
        raise HpcnnError(f"-o {str(path)!r}: expected the name of a file that ends in .html")


def _print(found: Look, *, as_json: bool) -> None:
    from hpcnn.system.output import write_line

    if as_json:
        import msgspec

        write_line(msgspec.json.format(msgspec.json.encode(found.facts)).decode())
        return
    from hpcnn.system.terminal import terminal_path, terminal_size
    from hpcnn.tools.data.text import text_lines

    terminal = terminal_path()
    width = terminal_size(terminal)[0] if terminal else 120
    for line in text_lines(found.facts, width=width, encoding=sys.stdout.encoding or "ascii"):
        write_line(line)


def _write_page(found: Look, path: Path, *, says: bool) -> None:
    from hpcnn.system.output import write_line
    from hpcnn.tools.data.page import page
    from hpcnn.tools.outputs import write_whole

    write_whole(path, page(found), "Give another file by -o.")
    if says:
        write_line(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
