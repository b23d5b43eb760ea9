"""Shows the network of a job before it is trained: ``python -m hpcnn.show JOB [--svg FILE] [--ranks N]``."""

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
    from hpcnn.tools.show.open_job import ShownJob


def _parser() -> Parser:
    parser = Parser(
        "hpcnn show",
        "Show the network of a job before it is trained: its layers with their shapes, parameters and multiply-adds, "
        "and the memory that a rank will need. Nothing but the shape of the data matters to it.",
        example="python -m hpcnn.show jobs/digits_mlp.toml --ranks 4",
    )
    add_job_arguments(parser)
    parser.add_argument(
        "--ranks",
        type=whole_number(1),
        metavar="N",
        help="number of ranks that the memory is computed for; default: those that the command is started on",
    )
    parser.add_argument("--svg", type=path_argument, metavar="FILE", help="draw the network into this SVG file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)

    launch = detect_launch()
    return run_serial(lambda: _run(arguments, arguments.ranks or launch.size) if launch.rank == 0 else EXIT_DONE)


def _run(arguments: argparse.Namespace, ranks: int) -> int:
    from hpcnn.tools.show.open_job import open_job

    _check_svg(arguments.svg)
    _show(open_job(arguments.job, arguments.overrides, ranks), arguments)
    return EXIT_DONE


def _check_svg(path: Path | None) -> None:
    if path is not None and (path.is_dir() or path.suffix.lower() != ".svg"):
        raise HpcnnError(f"--svg {str(path)!r}: expected the name of a file that ends in .svg")


def _show(shown: ShownJob, arguments: argparse.Namespace) -> None:
    from hpcnn.system.output import write_line
    from hpcnn.tools.html import clean
    from hpcnn.tools.outputs import write_whole
    from hpcnn.tools.show.drawing import svg_file
    from hpcnn.tools.show.memory import memory_table
    from hpcnn.tools.show.table import network_table

    for line in (*network_table(shown.network, shown.batch), "", *memory_table(shown)):
        write_line(clean(line))  # names come from files: nothing in them may steer the terminal
    if arguments.svg is not None:
        write_whole(arguments.svg, svg_file(shown.network, shown.job.name), "Give another file by --svg.")
        write_line(f"wrote {arguments.svg}")


if __name__ == "__main__":
    sys.exit(main())
