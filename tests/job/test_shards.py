"""Automatic shards follow from the job alone."""

from __future__ import annotations

import pytest

from hpcnn.job import load_job
from hpcnn.job.schema import MOST_SHARDS, Job
from hpcnn.job.shards import NUMPY_SHARDS, SAMPLES_PER_SHARD, shards_of


def job_of(batch_size: int | str, arithmetic: str = "native", *more: str) -> Job:
    return load_job(
        overrides=["train.shards=auto", f"train.batch_size={batch_size}", f"train.arithmetic={arithmetic}", *more]
    ).job


@pytest.mark.parametrize("samples", [1, 2, 3, 16, 17])
def test_native_shards_have_so_many_samples_at_least_and_powers_of_two_stay(samples: int) -> None:
    for batch in {samples, samples * SAMPLES_PER_SHARD, (samples + 1) * SAMPLES_PER_SHARD - 1}:
        shards = shards_of(job_of(batch))
        assert shards is not None
        assert shards == 1 or batch // shards >= SAMPLES_PER_SHARD
        assert shards == max(1, batch // SAMPLES_PER_SHARD)
    for power in range(12):
        shards = shards_of(job_of(2**power)) or 0
        assert shards & (shards - 1) == 0
        assert shards == max(1, 2**power // SAMPLES_PER_SHARD)


def test_there_are_no_more_than_a_job_can_have() -> None:
    assert shards_of(job_of(2 * MOST_SHARDS * SAMPLES_PER_SHARD)) == MOST_SHARDS


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 8, 64, 10_000])
def test_shards_of_products_that_are_not_ours_are_few(batch: int) -> None:
    assert shards_of(job_of(batch, "numpy")) == min(batch, 8)
    for arithmetic in ("native", "numpy"):
        assert shards_of(job_of(batch, arithmetic, "backend=keras")) == min(batch, 4)


@pytest.mark.parametrize(("arithmetic", "shards"), [("native", 1437 // SAMPLES_PER_SHARD), ("numpy", 8)])
def test_those_of_a_full_batch_follow_from_the_data(arithmetic: str, shards: int) -> None:
    job = job_of("full", arithmetic)
    assert shards_of(job) is None
    assert shards_of(job, 1437) == shards
    assert shards_of(job, 3) == {"native": 1, "numpy": 3}[arithmetic]


def test_a_number_stays() -> None:
    for batch in (64, "full"):
        assert shards_of(job_of(batch, "native", "train.shards=5")) == 5
        assert shards_of(job_of(batch, "native", "train.shards=5"), 10_000) == 5


def test_they_are_the_default() -> None:
    assert shards_of(load_job(overrides=["train.shards=auto", "train.arithmetic=numpy"]).job) == NUMPY_SHARDS
