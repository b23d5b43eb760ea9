"""Horovod for this environment: ``python -m hpcnn.horovod build`` builds and installs it, ``check`` tests it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.launcher import detect_launch
from hpcnn.errors import EXIT_DONE, CommunicatorError

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before

_CHECK_S = 600.0
_ENTRIES = 2**20
_ROUNDS = 20
_LARGE = 2.0**40
"""Beyond the integers that float32 represents exactly."""


def _parser() -> Parser:
    parser = Parser(
        "hpcnn horovod",
        "build: build Horovod for the TensorFlow, Python and MPI of this environment, cache the wheel, install it and "
        "check it. check: sum known numbers on two ranks, or on the ranks that mpirun has started.",
        example="python -m hpcnn.horovod build",
    )
    parser.add_argument("action", choices=("build", "check"), help="what to do")
    parser.add_argument(
        "--nccl", action="store_true", help="build with NCCL for allreduce on GPUs; needs CUDA and NCCL"
    )
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="number of compilers at once; default: one per core"
    )
    parser.add_argument("--rebuild", action="store_true", help="build again instead of using the cached wheel")
    parser.add_argument(
        "--launcher",
        default="mpirun -n 2",
        metavar="COMMAND",
        help="command that starts two ranks; default: 'mpirun -n 2'",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    launch = detect_launch()
    if arguments.action == "check" and launch.size > 1:
        return run_parallel(_check)

    def body(comm: Communicator) -> int:
        if comm.size > 1:
            raise CommunicatorError(f"{launch.launcher} started {comm.size} processes: one is enough to build Horovod")
        if arguments.action == "build":
            _build(arguments)
        return _start_check(arguments.launcher)

    return run_parallel(body)


def _build(arguments: Namespace) -> None:
    from hpcnn.keras.horovod_build import VERSION, Options, build_wheel, install_wheel
    from hpcnn.keras.horovod_environment import find_environment
    from hpcnn.system.output import write_line

    begin = time.monotonic()

    def say(text: str) -> None:
        write_line(f"[{time.monotonic() - begin:4.0f} s] {text}")

    say("looks at TensorFlow and MPI")
    environment = find_environment(shlex.split(arguments.launcher))
    say(f"Horovod {VERSION} for TensorFlow {environment.tensorflow} and {environment.mpi} ({environment.compiler})")
    wheel = build_wheel(environment, Options(arguments.nccl, arguments.jobs, arguments.rebuild), say)
    install_wheel(wheel, say)
    say("checks it")


def _start_check(launcher: str) -> int:
    """Start ``hpcnn horovod check`` on several ranks, which print the result themselves."""
    from hpcnn.keras.horovod_environment import rank_environment

    command = [*shlex.split(launcher), sys.executable, "-m", "hpcnn.horovod", "check"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, env=rank_environment(), timeout=_CHECK_S)
    except FileNotFoundError:
        raise CommunicatorError(
            f"there is no {command[0]} on the path. Name the command that starts two ranks: --launcher 'srun -n 2'"
        ) from None
    except subprocess.TimeoutExpired:
        raise CommunicatorError(f"{launcher!r}: the check took longer than {_CHECK_S:.0f} s") from None
    return done.returncode


def _check(comm: Communicator) -> int:
    import numpy as np

    from hpcnn.comm.exchange.horovod_exchange import horovod_exchange
    from hpcnn.comm.mpi_info import library_line
    from hpcnn.keras.horovod_environment import short_library
    from hpcnn.system.output import write_line

    exchange = horovod_exchange(comm, comm.size, _ENTRIES, np.float32, 1)
    (own,) = exchange.contributions
    pattern = (np.arange(_ENTRIES) % 100).astype(np.float32)
    own.vector[...], own.stats[...] = pattern * (comm.rank + 1), _LARGE + comm.rank
    seconds = []
    for _ in range(_ROUNDS):
        comm.barrier()
        begin = time.perf_counter()
        exchange.allreduce()
        seconds.append(time.perf_counter() - begin)
    ranks = comm.size
    total, stats = ranks * (ranks + 1) // 2, ranks * _LARGE + ranks * (ranks - 1) // 2
    right = np.array_equal(exchange.vector, pattern * total) and exchange.stats.tolist() == [stats]
    if not all(comm.allgather(right)):
        raise CommunicatorError(f"Horovod summed known numbers over {ranks} ranks, and the result is wrong")
    if comm.rank == 0:
        took = f"{_ENTRIES * 4 >> 20} MiB in {1000 * np.median(seconds):.1f} ms"
        write_line(f"Horovod sums correctly on {ranks} ranks, with {short_library(library_line())}: {took}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
