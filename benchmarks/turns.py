"""Measuring in turn, A B A B ..., so that whatever slows the machine for a while slows all sides the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcnn.comm.protocol import Communicator

_POLL_S = 1e-3


@dataclass(frozen=True)
class Runner:
    """One side: on all ranks, or on rank 0 alone while the others sleep."""

    name: str
    steps: Iterator[None]
    alone: bool = False


def take_turns(comm: Communicator, runners: Sequence[Runner], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the seconds per step of each runner, by name, one figure per round.

    A turn takes about `seconds`, and always the same number of steps.
    """
    counts = {runner.name: _steps_in(comm, runner, seconds) for runner in runners}
    figures: dict[str, list[float]] = {runner.name: [] for runner in runners}
    for _ in range(rounds):
        for runner in runners:
            count = counts[runner.name]
            figures[runner.name].append(time_steps(comm, runner, count) / count)
    return figures


def time_steps(comm: Communicator, runner: Runner, count: int) -> float:
    """Return the seconds that `count` steps take the slowest rank; on rank 0, if the runner is alone there."""
    if not runner.alone:
        comm.barrier()
        begin = time.perf_counter()
        _run(runner, count)
        comm.barrier()
        return time.perf_counter() - begin
    _meet_asleep(comm)
    begin = time.perf_counter()
    if comm.rank == 0:
        _run(runner, count)
    seconds = time.perf_counter() - begin
    _meet_asleep(comm)
    return seconds


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Return the ratio of each pair of figures of one round."""
    return [a / b for a, b in zip(over, under, strict=True)]


def milliseconds(figures: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Return milliseconds, from seconds."""
    return {name: [1000 * each for each in seconds] for name, seconds in figures.items()}


def rates(figures: Mapping[str, Sequence[float]], samples: Mapping[str, int]) -> dict[str, list[float]]:
    """Return samples per second, from seconds per step and samples per step."""
    return {name: [samples[name] / each for each in seconds] for name, seconds in figures.items()}


def _run(runner: Runner, count: int) -> None:
    for _ in range(count):
        next(runner.steps)


def _steps_in(comm: Communicator, runner: Runner, seconds: float) -> int:
    """Return how many steps take `seconds`. The first estimate is of slow first steps; the last takes a whole turn."""
    count = 2
    for _ in range(3):
        count = max(2, round(comm.broadcast(seconds * count / time_steps(comm, runner, count))))
    return count


def _meet_asleep(comm: Communicator) -> None:
    """Wait for all ranks without occupying a core, as a barrier of MPI would."""
    if comm.size == 1:
        return
    from mpi4py import MPI

    request = MPI.COMM_WORLD.Ibarrier()
    while not request.Test():
        time.sleep(_POLL_S)
