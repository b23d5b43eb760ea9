"""What is chosen for speed where the job leaves it open, and that the job's own choice stands."""

from types import SimpleNamespace

import pytest

from hpcnn.comm.threads import run_threads
from hpcnn.job.schema import Train
from hpcnn.training.tuning import OVERLAP_PAYS, SHARDING_PAYS, OverlapTrial, bucket_entries, shards_optimizer

LARGE = 10**9


def ranks(size, hosts=1):
    return SimpleNamespace(size=size, hosts=hosts)


@pytest.mark.parametrize(
    ("comm", "parameters", "sharded"),
    [
        (ranks(1), LARGE, False),
        (ranks(2), 2 * SHARDING_PAYS - 1, False),
        (ranks(2), 2 * SHARDING_PAYS, True),
        (ranks(64, hosts=4), 64 * SHARDING_PAYS - 1, False),
        (ranks(64, hosts=4), LARGE, True),
    ],
)
def test_the_optimizer_is_sharded_where_each_rank_has_much_to_do(comm, parameters, sharded):
    assert shards_optimizer(Train(), parameters, comm) is sharded
    for chosen in (False, True):
        assert shards_optimizer(Train(optimizer_sharding=chosen), parameters, comm) is chosen


@pytest.mark.parametrize(
    ("bucket_mb", "dtype", "entries"),
    [
        (0, "float32", 0),
        (1, "float32", 2**18),
        (1, "float64", 2**17),
        (0.5, "float32", 2**17),
        (4096, "float32", 2**30),
    ],
)
@pytest.mark.parametrize("comm", [ranks(1), ranks(4, hosts=2)])
def test_buckets_are_as_large_as_the_job_says(bucket_mb, dtype, entries, comm):
    assert bucket_entries(Train(bucket_mb=bucket_mb, dtype=dtype), 10**6, comm.hosts) == entries


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
def test_buckets_are_tried_between_hosts_and_where_there_is_much_to_send(dtype, size):
    train = Train(dtype=dtype)
    assert bucket_entries(train, LARGE, 1) == 0
    assert bucket_entries(train, OVERLAP_PAYS // size - 1, 2) == 0
    for parameters in (OVERLAP_PAYS // size, 50 * OVERLAP_PAYS):
        bucket = bucket_entries(train, parameters, 2)
        assert 2 <= parameters / bucket <= 8
        assert bucket * size >= OVERLAP_PAYS // 2


def trial(seconds):
    """Try both ways on ranks that take ``(overlapping, not)`` seconds each; return the ways of the steps, by rank."""

    def body(comm):
        exchange = SimpleNamespace(overlap=True)
        attempt, ways = OverlapTrial(exchange, comm), []
        for step in range(50):
            ways.append(exchange.overlap)
            if attempt.took(100.0 if step in (0, 4) else seconds[comm.rank][0 if exchange.overlap else 1]):
                return [*ways, exchange.overlap]
        raise AssertionError("the trial does not end")

    return run_threads(len(seconds), body)


@pytest.mark.parametrize(
    ("seconds", "overlaps"),
    [
        ([(1.0, 2.0)], True),
        ([(2.0, 1.0)], False),
        ([(1.0, 1.0)], False),
        ([(2.0, 1.0), (1.0, 3.0)], True),
        ([(1.0, 1.5), (3.0, 2.0), (1.0, 1.0)], False),
    ],
)
def test_ranks_decide_alike_by_the_times_of_all_but_the_first_steps(seconds, overlaps):
    assert trial(seconds) == [[True] * 4 + [False] * 4 + [overlaps]] * len(seconds)
