"""Reports the results of runs as a page, a picture or text: ``hpcnn report RUN... [-o FILE] [--png FILE] [--text]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, path_argument
from hpcnn.cli.serial import run_serial
from hpcnn.errors import EXIT_DONE, CheckpointError
from hpcnn.system.output import write_line

if TYPE_CHECKING:
    from hpcnn.tools.report.record import RunRecord

_NAME = "report"


def _parser() -> Parser:
    parser = Parser(
        "hpcnn report",
        "Report the results of one run, or of several side by side: learning curves, results, confusion matrix, time "
        "by phase, settings and environment. Writes one self-contained HTML page, or text or a picture with --text "
        "or --png. A run may still be running or have failed. A sweep stands for all of its runs.",
        example="hpcnn report runs/digits_mlp",
    )
    parser.add_argument("runs", nargs="+", type=path_argument, metavar="RUN", help="run folder")
    parser.add_argument(
        "-o",
        "--out",
        type=path_argument,
        metavar="FILE",
        help="the page, or a folder for it; default: RUN/report.html, or report.html here for several runs",
    )
    parser.add_argument(
        "--png", type=path_argument, metavar="FILE", help="write a picture; given a folder, report.png in it"
    )
    parser.add_argument("--text", action="store_true", help="print tables and small curves to the terminal")
    parser.add_argument("--title", default="", help="heading of the page; default: the job's name")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    return run_serial(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from hpcnn.tools.report.read import read_runs

    page, picture = _targets(arguments)
    runs = read_runs(arguments.runs)
    if arguments.text:
        _print(runs, arguments.title)
    if picture is not None:
        from hpcnn.tools.report.png import write_png

        _write(picture, lambda path: write_png(path, runs, arguments.title))
    if page is not None:
        from hpcnn.tools.report.page import page as html

        text = html(runs, arguments.title)
        _write(page, lambda path: path.write_text(text, encoding="utf-8"))
    return EXIT_DONE


def _targets(arguments: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Return the paths of the page and of the picture; None for what was not requested."""
    picture = None if arguments.png is None else _target(arguments.png, ".png", "--png")
    if arguments.out is not None:
        return _target(arguments.out, ".html", "-o"), picture
    if arguments.text or picture is not None:
        return None, picture
    single = len(arguments.runs) == 1
    return (arguments.runs[0] if single else Path()) / f"{_NAME}.html", None


def _target(path: Path, suffix: str, option: str) -> Path:
    """Return the file that a path means; another ending is refused, so that a slip overwrites no checkpoint."""
    if path.is_dir():
        return path / f"{_NAME}{suffix}"
    if path.suffix.lower() != suffix:
        raise CheckpointError(
            f"{option} {str(path)!r}: expected a name that ends in {suffix}, or a folder that exists."
        )
    return path


def _write(path: Path, write: Callable[[Path], object]) -> None:
    from hpcnn.system.output_files import output_path

    try:
        with output_path(path) as temporary:
            write(temporary)
            size = temporary.stat().st_size
    except OSError as error:
        reason = error.strerror or error
        raise CheckpointError(f"can't write {str(path)!r} ({reason}). Choose another file with -o or --png.") from None
    write_line(f"wrote {path} ({size / 1000:,.0f} kB)")


def _print(runs: Sequence[RunRecord], title: str) -> None:
    """Print the text form, as wide as the terminal, or 80 columns."""
    from hpcnn.system.terminal import terminal_path, terminal_size
    from hpcnn.tools.report.text import text_report

    terminal = terminal_path()
    width = terminal_size(terminal)[0] if terminal else 80
    for line in text_report(runs, title, width=width, encoding=sys.stdout.encoding or "ascii"):
        write_line(line)


if __name__ == "__main__":
    sys.exit(main())
