"""The compiled core's products against NumPy's, of every layer of the networks, in turn, in one process and thread.

python -m benchmarks.products
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.problem import NETWORKS
from benchmarks.report import Report, make_parser
from benchmarks.turns import Runner, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.core.tree import leaf_steps
from hpcnn.errors import CommunicatorError
from hpcnn.kernels import core
from hpcnn.system.memory import aligned_empty

BATCHES = (32, 128, 512)
SHARDS = (1, 8, 64)
LARGE = [name for name, widths in NETWORKS.items() if widths[1] >= 512]
Array = NDArray[np.float32]


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    if comm.size > 1:
        raise CommunicatorError(f"{comm.size} ranks, but this measures one: leave mpirun out")
    report = Report(comm, {"core": core.isa()}, arguments.json)
    every: list[list[float]] = []
    for batch in BATCHES:
        for inputs, units, is_first in _layers(list(NETWORKS)):
            for what, sides in _products(batch, inputs, units, is_first).items():
                figures = _measured(comm, arguments, 2 * batch * inputs * units, sides)
                every.append(ratios(figures["NumPy"], figures["core"]))
                microseconds = {side: [1e6 * seconds for seconds in each] for side, each in figures.items()}
                report.add(f"{what}, {inputs}x{units}, batch {batch}", microseconds, "us", {"speed / NumPy": every[-1]})
    for inputs, units, _ in _layers(LARGE):
        sides = {str(shards): _gradient(max(BATCHES), inputs, units, shards) for shards in SHARDS}
        figures = _measured(comm, arguments, 2 * max(BATCHES) * inputs * units, sides)
        compared = {f"{side} / 1": ratios(each, figures["1"]) for side, each in figures.items() if side != "1"}
        microseconds = {side: [1e6 * seconds for seconds in each] for side, each in figures.items()}
        report.add(f"dW by shards, {inputs}x{units}, batch {max(BATCHES)}", microseconds, "us", compared)
    means = np.exp(np.log(every).mean(axis=0)).tolist()
    medians = [float(np.median(each)) for each in every]
    report.add("all", {}, "", {"geometric mean": means, "smallest median": [min(medians)]})
    report.write()
    return 0


def _layers(networks: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield inputs and units of each layer once, and whether its input is the network's, which needs no gradient."""
    pairs = [(pair, i == 0) for name in networks for i, pair in enumerate(pairwise(NETWORKS[name]))]
    yield from ((*pair, is_first) for pair, is_first in dict.fromkeys(pairs))


def _products(batch: int, inputs: int, units: int, is_first: bool) -> dict[str, dict[str, Callable[[], object]]]:
    """Return the products of a layer: what each is, then how either side computes it."""
    x, kernel, dy = _random(batch, inputs), _random(inputs, units), _random(batch, units)
    y, dx, gradient = (
        aligned_empty(dy.shape, dy.dtype),
        aligned_empty(x.shape, x.dtype),
        aligned_empty(kernel.shape, x.dtype),
    )
    made = {
        "y = xW": {"core": _kept("product", x, kernel, y, None, 0, None), "NumPy": lambda: np.matmul(x, kernel, y)},
        "dx": {"core": _kept("product", dy, kernel.T, dx, None, 0, None), "NumPy": lambda: np.matmul(dy, kernel.T, dx)},
        "dW": {"core": _gradient(batch, inputs, units, 1), "NumPy": lambda: np.matmul(x.T, dy, gradient)},
    }
    if is_first:
        del made["dx"]
    return made


def _gradient(batch: int, inputs: int, units: int, shards: int) -> Callable[[], object]:
    """Return what computes the gradient of a kernel over equal shards of a batch."""
    rows = [batch * i // shards for i in range(shards + 1)]
    tree = core.Shards([0, shards], rows, [len(step.fold) for step in leaf_steps((0, shards))])
    kernel = aligned_empty((inputs, units), np.float32)
    return _kept("weight_gradient", tree, _random(batch, inputs), _random(batch, units), (kernel,))


def _kept(operation: str, *arguments: Any) -> Callable[[], object]:
    """Return an operation that is checked once, and then run, as the steps of a training run it."""
    program = core.Program()
    getattr(program, operation)(*arguments)
    return program.run


def _random(*shape: int) -> Array:
    array = aligned_empty(shape, np.float32)
    array[...] = np.random.default_rng(0).standard_normal(shape, np.float32)
    return array


def _measured(
    comm: Communicator, arguments: argparse.Namespace, operations: int, sides: dict[str, Callable[[], object]]
) -> dict[str, list[float]]:
    """Return the seconds that each side takes, round by round. A step is many calls where one is short."""
    calls = max(1, 10**7 // operations)
    runners = [Runner(side, _steps(compute, calls)) for side, compute in sides.items()]
    figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
    return {side: [seconds / calls for seconds in each] for side, each in figures.items()}


def _steps(compute: Callable[[], object], calls: int) -> Iterator[None]:
    while True:
        for _ in range(calls):
            compute()
        yield


def main() -> int:
    parser = make_parser("products", "Compares the core's matrix products with NumPy's.", ranks=1, rounds=9)
    parser.add_argument("--seconds", type=float, default=0.02, help="of each measurement; 0.02")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
