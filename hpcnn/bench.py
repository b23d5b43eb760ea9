"""Measures the exchange of gradients, the network, the phases of a step: ``mpirun -n 4 python -m hpcnn.bench WHAT``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument, positive_seconds, whole_number
from hpcnn.cli.parallel import build_job, run_parallel

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before

BENCHMARKS = ("allreduce", "network", "step")
_ITEM_BYTES = {"float32": 4, "float64": 8}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = Parser(
        "hpcnn bench",
        "Measure how fast the ranks sum their gradients (allreduce), what messages and memory cost (network), or the "
        "time of each phase of a training step (step).",
        example="mpirun -n 4 python -m hpcnn.bench allreduce --max 16M",
    )
    parser.add_argument("what", choices=BENCHMARKS, help="what to measure; each has its own --help")
    what = parser.parse_args(argv[:1] or ["--help"]).what
    return {"allreduce": _allreduce, "network": _network, "step": _step}[what](argv[1:])


def _allreduce_parser() -> Parser:
    parser = Parser(
        "hpcnn bench allreduce",
        "Sum a vector over all ranks exactly as in training, alternating with MPI_Allreduce and with the hardware "
        "limit: the network between nodes, memory copies within one. Reports medians of the slowest rank's time.",
        example="mpirun -n 4 python -m hpcnn.bench allreduce --max 16M --json allreduce.json",
    )
    size = "bytes; K, M and G are powers of 1024"
    parser.add_argument("--min", type=_size, default=4, metavar="BYTES", help=f"smallest vector, default: 4; {size}")
    parser.add_argument("--max", type=_size, default=2**28, metavar="BYTES", help="largest vector; default: 256M")
    parser.add_argument("--factor", type=int, choices=(2, 4), default=4, help="factor between sizes; default: 4")
    parser.add_argument(
        "--repeats", type=whole_number(1), default=25, metavar="N", help="most repetitions; default: 25"
    )
    parser.add_argument(
        "--seconds",
        type=positive_seconds,
        default=1.0,
        metavar="S",
        help="approximate time per size in seconds; default: 1",
    )
    parser.add_argument(
        "--dtype", choices=tuple(_ITEM_BYTES), default="float32", help="type of the entries; default: float32"
    )
    _add_outputs(parser)
    return parser


def _allreduce(argv: Sequence[str]) -> int:
    parser = _allreduce_parser()
    arguments = parser.parse_args(argv)
    if arguments.max < arguments.min:
        parser.error(f"--max {arguments.max} is less than --min {arguments.min}")
    if arguments.min % _ITEM_BYTES[arguments.dtype]:
        parser.error(
            f"--min {arguments.min} is not a multiple of the {_ITEM_BYTES[arguments.dtype]} bytes of {arguments.dtype}"
        )

    def body(comm: Communicator) -> int:
        from hpcnn.tools.bench import allreduce_report as report
        from hpcnn.tools.bench.allreduce import AllreduceBench, sizes_between
        from hpcnn.tools.bench.outputs import warnings

        _check(comm, arguments)
        bench = AllreduceBench(comm, dtype=arguments.dtype, repeats=arguments.repeats, seconds=arguments.seconds)
        times = bench.run(sizes_between(arguments.min, arguments.max, arguments.factor))
        troubles = warnings(comm)
        if comm.rank == 0:
            report.show(times, arguments.dtype, troubles)
        figures = report.as_json(times, arguments.dtype)
        _write(comm, arguments, figures, lambda path: report.plot(times, path))
        return 0

    return run_parallel(body)


def _network(argv: Sequence[str]) -> int:
    parser = Parser(
        "hpcnn bench network",
        "Measure the latency, the overhead per message and the bandwidth of messages between and within nodes, and the "
        "memory bandwidth of a node, with the ranks that are there. Runs and hpcnn predict-scaling take the file.",
        example="mpirun -n 4 python -m hpcnn.bench network --json network.json",
    )
    parser.add_argument(
        "--seconds",
        type=positive_seconds,
        default=0.5,
        metavar="S",
        help="approximate time in seconds in which a rate is measured; default: 0.5. Give more where a network sends "
        "the first bytes faster than it can go on",
    )
    parser.add_argument(
        "--json", type=path_argument, metavar="FILE", help="write the figures to a file, without host names"
    )
    parser.add_argument("--hosts", action="store_true", help="include host names in that file")
    arguments = parser.parse_args(argv)
    arguments.plot = None

    def body(comm: Communicator) -> int:
        from hpcnn.tools.bench import network_report as report
        from hpcnn.tools.bench.network import NetworkBench
        from hpcnn.tools.bench.outputs import warnings

        _check(comm, arguments)
        figures = NetworkBench(comm, seconds=arguments.seconds).run()
        troubles = warnings(comm)
        _write(comm, arguments, report.as_json(figures), lambda path: None)
        if comm.rank == 0:
            report.show(figures, str(arguments.json or ""), troubles)
        return 0

    return run_parallel(body)


def _step_parser() -> Parser:
    parser = Parser(
        "hpcnn bench step",
        "Train a job for some steps, without saving anything, and show each rank's time by phase: reading samples, "
        "forward, backward, waiting for other ranks, reduction of gradients, optimizer. Names the slowest rank.",
        example="mpirun -n 4 python -m hpcnn.bench step jobs/digits_mlp.toml --steps 200",
    )
    add_job_arguments(parser)
    parser.add_argument("--steps", type=whole_number(1), default=50, metavar="N", help="steps to measure; default: 50")
    _add_outputs(parser)
    return parser


def _step(argv: Sequence[str]) -> int:
    arguments = _step_parser().parse_args(argv)

    def body(comm: Communicator) -> int:
        from hpcnn.tools.bench import step_report as report
        from hpcnn.tools.bench.outputs import warnings
        from hpcnn.tools.bench.step import measure_steps

        _check(comm, arguments)
        job, training = build_job(comm, arguments)
        times = measure_steps(training, comm, arguments.steps)
        troubles = warnings(comm)
        if comm.rank == 0:
            report.show(times, job.name, troubles)
        _write(comm, arguments, report.as_json(times, job.name), lambda path: report.plot(times, job.name, path))
        return 0

    return run_parallel(body)


def _add_outputs(parser: Parser) -> None:
    parser.add_argument(
        "--json", type=path_argument, metavar="FILE", help="write the raw figures to a file, without host names"
    )
    parser.add_argument("--hosts", action="store_true", help="include host names in that file")
    parser.add_argument("--plot", type=path_argument, metavar="FILE.png", help="plot them (extra 'plot')")


def _check(comm: Communicator, arguments: argparse.Namespace) -> None:
    from hpcnn.comm.collectives import agree
    from hpcnn.tools.bench.outputs import check_outputs

    agree(comm, lambda: check_outputs(arguments.json, arguments.plot) if comm.rank == 0 else None)


def _write(
    comm: Communicator, arguments: argparse.Namespace, figures: dict[str, Any], plot: Callable[[Path], None]
) -> None:
    from hpcnn.comm.collectives import agree
    from hpcnn.tools.bench.outputs import measured_on, write_json

    environment = measured_on(comm, with_hosts=arguments.hosts)

    def write() -> None:
        if arguments.json is not None:
            write_json(arguments.json, environment | figures)
        if arguments.plot is not None:
            plot(arguments.plot)

    agree(comm, lambda: write() if comm.rank == 0 else None)


def _size(text: str) -> int:
    """Return the number of bytes in `text`: 4, 64K, 1M, 2GiB.

    >>> _size("4"), _size("64K"), _size("1MiB")
    (4, 65536, 1048576)
    """
    found = re.fullmatch(r"([1-9]\d*) ?([KMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size. Give bytes, for example 4, 64K or 16M")
    return int(found[1]) << 10 * ("", "K", "M", "G").index(found[2].upper())


if __name__ == "__main__":
    sys.exit(main())
