"""Where a step's time goes, on ranks that are threads, some of them slow on purpose."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.core.activity import BACKWARD, DATA, FORWARD, OPTIMIZER, OTHER, REDUCE, WAIT
from hpcnn.errors import DivergedError
from hpcnn.runs.build import build_training
from hpcnn.tools.bench.step import PHASES, WARM_UP, RankTimes, StepTimes, measure_steps
from tests.small_jobs import make_job

SLOW_S = 0.02


def measure(ranks: int, steps: int, *, slow: int | None = None, sharding: bool = False) -> list[StepTimes]:
    job = make_job(train={"optimizer_sharding": sharding, "bucket_mb": 0.0})

    def body(comm: ThreadCommunicator) -> StepTimes:
        training = build_training(job, Path(), comm)
        load = training.shards.shards

        def slowly(step: int, first: int, stop: int):
            time.sleep(SLOW_S * (stop - first))
            return load(step, first, stop)

        if comm.rank == slow:
            training.shards.shards = slowly
        return measure_steps(training, comm, steps)

    return [body(SerialCommunicator())] if ranks == 1 else run_threads(ranks, body)


def test_one_rank() -> None:
    begin = time.perf_counter()
    (times,) = measure(1, 7)
    assert 0 < times.total < time.perf_counter() - begin
    assert times.steps == 7
    (only,) = times.ranks
    assert (only.rank, list(only.seconds)) == (0, list(PHASES))
    assert min(only.seconds[phase] for phase in (DATA, FORWARD, BACKWARD)) > 0
    assert only.seconds[WAIT] == 0


def test_samples_are_those_of_the_measured_steps() -> None:
    """Epochs are batches of 13, 13 and 4."""
    assert WARM_UP % 3 == 1
    assert measure(1, 2)[0].samples == 13 + 4
    assert measure(3, 4)[0].samples == 13 + 4 + 13 + 13  # over all ranks, not on each


def test_each_epoch_has_its_order() -> None:
    training = build_training(make_job(), Path(), SerialCommunicator())
    start, epochs = training.shards.start_epoch, []

    def started(epoch: int, *rest: Any) -> None:
        epochs.append(epoch)
        start(epoch, *rest)

    training.shards.start_epoch = started
    measure_steps(training, SerialCommunicator(), 3)
    assert epochs == [0, 1, 2, 3, 3, 4]  # the warm-up ends within the fourth


@pytest.mark.parametrize("sharding", [False, True])
def test_the_slowest_rank_is_found(sharding: bool) -> None:
    everyone = measure(3, 6, slow=1, sharding=sharding)
    assert everyone[0] == everyone[1] == everyone[2]
    times = everyone[0]
    assert times.slowest.rank == 1
    assert times.slowness > 1
    assert times.slowest.seconds[DATA] > 6 * 2 * SLOW_S  # two shards a step at least
    assert times.ranks[0].seconds[WAIT] > times.slowest.seconds[WAIT]
    assert times.total / 6 > 2 * SLOW_S


def test_warm_up_does_not_count() -> None:
    training = build_training(make_job(), Path(), SerialCommunicator())
    load, slept = training.shards.shards, []

    def slow_at_first(step: int, first: int, stop: int):
        if not slept:
            slept.append(time.sleep(0.5))
        return load(step, first, stop)

    training.shards.shards = slow_at_first
    assert measure_steps(training, SerialCommunicator(), 1).total < 0.5
    assert slept


def test_a_run_that_diverges_is_no_measurement() -> None:
    job = make_job(optimizer={"name": "sgd", "learning_rate": 1e30})
    training = build_training(job, Path(), SerialCommunicator())
    with pytest.raises(DivergedError, match=r"step \d+: .* is not finite, so its time says nothing"):
        measure_steps(training, SerialCommunicator(), 20)


def made_up(busy: list[float], total: float = 10.0) -> StepTimes:
    """Return times of ranks that compute for so long, and wait for the rest."""
    rest = dict.fromkeys((DATA, FORWARD, REDUCE, OPTIMIZER, OTHER), 0.0)
    ranks = [
        RankTimes(rank, f"host{rank}", rest | {BACKWARD: each, WAIT: total - each}) for rank, each in enumerate(busy)
    ]
    return StepTimes(100, 12_800, ranks)


def test_medians_and_slowness() -> None:
    times = made_up([2.0, 8.0, 4.0, 4.0])
    assert times.slowest.rank == 1
    assert times.slowness == 2.0
    assert times.typical[BACKWARD] == 4.0
    assert times.typical[WAIT] == 6.0
    assert times.total == 10.0
