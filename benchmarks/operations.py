"""Where the time of a training step goes: each operation of the recorded pass by itself, by kind and by layer.

python -m benchmarks.operations "ResNet-20 32x32"
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.deep import hpcnn_deep_steps
from benchmarks.deep_networks import DEEP
from benchmarks.report import positive
from hpcnn.backends.numpy import batch_pass
from hpcnn.cli.arguments import Parser
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.kernels import core


class Watched:
    """A program that knows its operations' names and shapes, and times each."""

    def __init__(self) -> None:
        self.program = core.Program()
        self.names: list[str] = []
        self.seconds: dict[int, list[float]] = defaultdict(list)

    def __len__(self) -> int:
        return len(self.program)

    def run(self, begin: int = 0, end: int | None = None) -> None:
        """Do the operations one by one."""
        for number in range(begin, len(self) if end is None else end):
            start = time.thread_time_ns()
            self.program.run(number, number + 1)
            self.seconds[number].append((time.thread_time_ns() - start) * 1e-9)

    def __getattr__(self, name: str) -> Any:
        append = getattr(self.program, name)

        def record(*arguments: Any) -> None:
            append(*arguments)
            self.names.append(name + describe(arguments))

        return record


def describe(arguments: tuple[Any, ...]) -> str:
    """Return the shapes of arrays, and numbers, in short."""
    found = []
    for each in arguments:
        if hasattr(each, "shape"):
            found.append("x".join(map(str, each.shape)))
        elif isinstance(each, int):
            found.append(str(each))
    return f"({', '.join(found)})"


@contextmanager
def watched_programs() -> Iterator[list[Watched]]:
    """Let passes be recorded into programs that are listed here."""
    made: list[Watched] = []

    class Target:
        def __getattr__(self, name: str) -> Any:
            return getattr(core, name)

        def Program(self) -> Watched:  # noqa: N802
            made.append(Watched())
            return made[-1]

    batch_pass.core, before = Target(), batch_pass.core  # type: ignore[assignment, attr-defined]
    try:
        yield made
    finally:
        batch_pass.core = before  # type: ignore[attr-defined]


def main() -> int:
    description = "Shows where the time of a training step goes, operation by operation."
    parser = Parser("benchmarks.operations", description, example='python -m benchmarks.operations "CNN 28x28"')
    parser.add_argument("network", choices=list(DEEP))
    parser.add_argument("--steps", type=positive, default=7, metavar="N", help="of which medians are shown; 7")
    parser.add_argument("--shards", type=int, default=0, metavar="V", help="gradient shards; as a job has if left out")
    parser.add_argument("--rows", type=positive, default=25, metavar="N", help="single operations to show; 25")
    arguments = parser.parse_args()
    with watched_programs() as programs:
        steps = hpcnn_deep_steps(arguments.network, SerialCommunicator(), arguments.shards)
        wall, processor = [], []
        for _ in range(arguments.steps + 2):
            start, own = time.perf_counter(), time.process_time()
            next(steps)
            wall.append(time.perf_counter() - start)
            processor.append(time.process_time() - own)
    program = max(programs, key=len)
    medians = {place: statistics.median(taken) for place, taken in program.seconds.items()}
    total, step = sum(medians.values()), statistics.median(processor[2:])
    print(f"step {1e3 * step:.2f} ms, of which operations {1e3 * total:.2f} ms; {len(program)} operations\n")
    kinds: dict[str, float] = defaultdict(float)
    for place, seconds in medians.items():
        kinds[program.names[place].partition("(")[0]] += seconds
    for kind, seconds in sorted(kinds.items(), key=lambda each: -each[1]):
        print(f"{1e3 * seconds:9.3f} ms {100 * seconds / step:5.1f} %  {kind}")
    print()
    for place, seconds in sorted(medians.items(), key=lambda each: -each[1])[: arguments.rows]:
        print(f"{1e3 * seconds:9.3f} ms {100 * seconds / step:5.1f} %  {place:4} {program.names[place]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
