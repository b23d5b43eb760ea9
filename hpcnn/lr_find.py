"""Finds a learning rate for a job: ``mpirun -n 4 python -m hpcnn.lr_find JOB``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument, whole_number
from hpcnn.cli.parallel import build_job, run_parallel
from hpcnn.errors import EXIT_DONE, EXIT_FAILURE

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.tools.lr_find.measure import RangeTest
    from hpcnn.tools.lr_find.suggestion import Suggestion

FEWEST_STEPS = 20


def _parser() -> Parser:
    parser = Parser(
        "hpcnn lr-find",
        "Find a learning rate for a job: train it for some steps, each at a higher rate than the one before, and find "
        "where the loss falls fastest. The weights are discarded. The exit code is 1 if no rate can be suggested.",
        example="mpirun -n 4 python -m hpcnn.lr_find jobs/digits_mlp.toml -o found",
    )
    add_job_arguments(parser)
    parser.add_argument(
        "--from", dest="low", type=_rate, default=1e-7, metavar="RATE", help="first rate; default: 1e-7"
    )
    parser.add_argument("--to", dest="high", type=_rate, default=10.0, metavar="RATE", help="last rate; default: 10")
    parser.add_argument(
        "--steps", type=whole_number(FEWEST_STEPS), default=200, metavar="N", help="number of steps; default: 200"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path_argument,
        metavar="DIR",
        help="folder for lr_range.csv and, with the extra 'plot', lr_range.png",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of text and a chart")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.low >= arguments.high:
        parser.error(f"--from {arguments.low:g} must be below --to {arguments.high:g}")

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.tools.lr_find.measure import measure
        from hpcnn.tools.lr_find.suggestion import suggest
        from hpcnn.tools.outputs import make_folder
        from hpcnn.training.tuning import use_cores

        agree(comm, lambda: make_folder(arguments.output) if comm.rank == 0 else None)
        job, training = build_job(comm, arguments)
        use_cores(comm, training.replica.model)
        test = measure(training, comm, low=arguments.low, high=arguments.high, steps=arguments.steps)
        suggestion = suggest(test)
        if comm.rank == 0:
            _show(job.name, test, suggestion, arguments)
        return EXIT_DONE if suggestion is not None else EXIT_FAILURE

    return run_parallel(body)


def _show(job: str, test: RangeTest, suggestion: Suggestion | None, arguments: argparse.Namespace) -> None:
    from hpcnn.system.output import write_line
    from hpcnn.tools.lr_find import outputs
    from hpcnn.tools.pictures import write_results

    folder, words = arguments.output, outputs.sentences(test, suggestion)
    if arguments.json:
        write_line(json.dumps(outputs.as_json(job, test, suggestion)))
    else:
        for line in (f"{job}: learning-rate range test", *words[:-1], "", *outputs.chart(test, suggestion), ""):
            write_line(line)
    if folder is not None:
        table = outputs.as_csv(test)
        said = write_results(folder, "lr_range", table, lambda path: outputs.draw(job, test, suggestion, path))
        if not arguments.json:
            write_line(said)
    if not arguments.json:
        write_line(words[-1])


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a learning rate: give a number above 0, for example 1e-5")
    return rate


if __name__ == "__main__":
    sys.exit(main())
