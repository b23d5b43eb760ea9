"""Predicts the time of a step on many nodes: ``python -m hpcnn.predict_scaling JOB --nodes 1-1024``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument, whole_number
from hpcnn.cli.parallel import run_parallel
from hpcnn.errors import EXIT_DONE

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before

MOST_RANKS = 2**18
_NODES = re.compile(r"[0-9]+(-[0-9]+|(,[0-9]+)*)")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def _parser() -> Parser:
    parser = Parser(
        "hpcnn predict-scaling",
        "Predict what a step of a job takes on many nodes, with as many samples a rank (weak scaling) and with one "
        "batch for all (strong scaling). Nodes pay while at least half of their time counts. The computation is "
        "measured here: start as many ranks as a node is to have, so that they share its memory.",
        example="mpirun -n 4 hpcnn predict-scaling JOB --nodes 1-64 --tasks-per-node 4",
    )
    add_job_arguments(parser)
    parser.add_argument(
        "--run",
        type=path_argument,
        metavar="RUN",
        help="a run in place of JOB: its job, and from its noise scale how large a batch, and so how many nodes pay",
    )
    parser.add_argument(
        "--nodes",
        type=nodes_of,
        default=nodes_of("1-64"),
        metavar="N",
        help="numbers of nodes: 1,2,6 or a range such as 1-1024, by doubling; default: 1-64",
    )
    parser.add_argument(
        "--tasks-per-node", type=whole_number(1), default=1, metavar="N", help="ranks of a node; default: 1"
    )
    parser.add_argument(
        "--batch-per-rank",
        type=whole_number(1),
        metavar="N",
        help="samples of a rank's step; default: train.batch_size over the ranks of the first number of nodes",
    )
    parser.add_argument(
        "--network",
        metavar="NETWORK",
        help="latency and bandwidth between nodes, or the file of hpcnn bench network; default: 2us,100Gb/s",
    )
    parser.add_argument(
        "--memory",
        type=_rate,
        metavar="GB/S",
        help="memory bandwidth of a node in GB/s; default: that of the file, or what the ranks here measure",
    )
    parser.add_argument(
        "--step",
        type=_duration,
        metavar="TIME",
        help="what a rank computes in a step, such as 12ms, in place of a measurement",
    )
    parser.add_argument(
        "--steps", type=whole_number(1), default=20, metavar="N", help="steps that are measured; default: 20"
    )
    parser.add_argument(
        "--hidden",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of the messages' time that passes beside the backward pass, from 0 to 1; default: 0",
    )
    parser.add_argument("--json", type=path_argument, metavar="FILE", help="write all figures to a file")
    parser.add_argument(
        "--plot", type=path_argument, metavar="FILE", help="plot efficiencies, as .svg or .png (extra 'plot')"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = parsed(argv)
    return run_parallel(lambda comm: run(comm, arguments))


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; what is wrong with them ends the command."""
    parser = _parser()
    arguments: argparse.Namespace = parser.parse_args(argv)
    if arguments.run is not None and arguments.job is not None:
        parser.error("JOB and --run exclude each other: a run has a job")
    if arguments.nodes[-1] * arguments.tasks_per_node > MOST_RANKS:
        parser.error(f"--nodes times --tasks-per-node must be at most {MOST_RANKS:,} ranks")
    return arguments


def run(comm: Communicator, arguments: argparse.Namespace) -> int:
    """Predict, show and write. Collective."""
    from hpcnn.comm.collectives import agree
    from hpcnn.tools.bench.outputs import check_outputs, write_json
    from hpcnn.tools.prediction import report
    from hpcnn.tools.prediction.predict import ASSUMED, Request, predict

    agree(comm, lambda: check_outputs(arguments.json, arguments.plot) if comm.rank == 0 else None)
    request = Request(
        job=arguments.job,
        overrides=arguments.overrides,
        nodes=arguments.nodes,
        tasks=arguments.tasks_per_node,
        network=arguments.network or ASSUMED,
        is_assumed=arguments.network is None,
        run=arguments.run,
        batch_per_rank=arguments.batch_per_rank,
        step_s=arguments.step,
        steps=arguments.steps,
        hidden=arguments.hidden,
        memory_gb_per_s=arguments.memory,
    )
    found = predict(comm, request)
    if found is not None:
        report.show(found)
        if arguments.json is not None:
            write_json(arguments.json, report.as_json(found))
        if arguments.plot is not None:
            report.plot(found, arguments.plot)
    return EXIT_DONE


def nodes_of(text: str) -> list[int]:
    """Return numbers of nodes, ascending.

    >>> nodes_of("1-12"), nodes_of("3,1")
    ([1, 2, 4, 8, 12], [1, 3])
    """
    if not _NODES.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers such as 1,2,6, or a range such as 1-1024")
    number = whole_number(1)
    first, dash, last = text.partition("-")
    if not dash:
        return sorted({number(part) for part in text.split(",")})
    low, high = number(first), number(last)
    if low > high:
        raise argparse.ArgumentTypeError(f"{text!r} ends before it begins. Give the smaller number first")
    doubled = [low]
    while 2 * doubled[-1] < high:
        doubled.append(2 * doubled[-1])
    return sorted({*doubled, high})


def _duration(text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a time of more than 0: a number and us, ms or s, such as 12ms"
        )
    return float(found[1]) * _SECONDS[found[2]]


def _rate(text: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(GB/s)?", text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} must be a positive number of GB/s")
    return float(found[1])


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number from 0 to 1")
    return share


if __name__ == "__main__":
    sys.exit(main())
