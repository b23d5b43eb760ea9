"""The exchange in every layout of ranks that threads can act out, with ranks that come late and consumers that fail."""

from __future__ import annotations

import mmap
import time
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.comm.protocol import ReplicatedExchange
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.core.dealing import Dealing
from hpcnn.errors import CommunicatorError
from tests.comm.exchanges import Case, assert_dealt, sharded, step_of, sum_of

few = settings(max_examples=40, deadline=None)
LAYOUTS = {
    "one node": [0, 0, 0],
    "1 + 2": [0, 1, 1],
    "2 + 2 cyclic": [0, 1, 0, 1],
    "1 + 1 + 1": [0, 1, 2],
    "3 + 1 + 2 in no order": [2, 0, 0, 1, 2, 0],
}


@st.composite
def dealings(draw: st.DrawFn, length: int) -> Dealing:
    """Any way to deal out a vector in up to 7 chunks."""
    chunk = draw(st.integers(1 + length // 7, length + 2))
    return Dealing(chunk, draw(st.integers(0, chunk)), draw(st.booleans()), draw(st.floats(0, 1)))


@st.composite
def cases(draw: st.DrawFn) -> SimpleNamespace:
    """Up to 3 hosts of up to 3 ranks, a few shards more than ranks, and any way to cut the vector."""
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    host_of_rank = draw(st.permutations([host for host, count in enumerate(counts) for _ in range(count)]))
    length = draw(st.one_of(st.integers(1, 40), st.integers(1, 5000), st.integers(32_000, 70_000)))
    shards = len(host_of_rank) + draw(st.integers(0, 9))
    return SimpleNamespace(
        host_of_rank=host_of_rank,
        case=Case(shards, length, draw(st.sampled_from([np.float32, np.float64])), draw(st.integers(0, 3))),
        bucket=draw(st.sampled_from([0, -(-length // 4), -(-length // 2), length])),
        dealing=draw(dealings(length)),
        alignment=draw(st.sampled_from([1, 100, 1024])),
        overlap=draw(st.booleans()),
        halving=draw(st.booleans()),
    )


def check_sums(exchange: ReplicatedExchange, case: Case, turn: int) -> None:
    vector, stats = case.total(turn)
    assert exchange.vector.tobytes() == vector.tobytes()
    assert exchange.stats.tobytes() == stats.tobytes()


@few
@given(drawn=cases())
def test_sums_follow_the_tree_wherever_the_ranks_are(drawn: SimpleNamespace) -> None:
    case: Case = drawn.case

    def body(comm: ThreadCommunicator) -> None:
        exchange = comm.exchange(case.shards, case.length, case.dtype, case.stats, bucket=drawn.bucket)
        exchange.overlap = drawn.overlap
        for turn in range(2):
            exchange.start(lambda: True)
            case.fill(exchange.contributions, turn)
            assert exchange.finish()
            check_sums(exchange, case, turn)

    run_threads(len(drawn.host_of_rank), body, host_of_rank=drawn.host_of_rank, halving=drawn.halving)


@few
@given(drawn=cases())
def test_owners_give_all_what_they_make_of_the_sums(drawn: SimpleNamespace) -> None:
    case: Case = drawn.case

    def body(comm: ThreadCommunicator) -> None:
        exchange, target = sharded(comm, case, bucket=drawn.bucket, alignment=drawn.alignment)
        exchange.overlap = drawn.overlap
        expected = np.zeros(case.length, case.dtype)

        def update(part: int) -> None:
            target.array[exchange.parts[part]] += sum_of(exchange, part, case.dtype)

        for turn in range(2):
            exchange.start(step_of(exchange, update))
            case.fill(exchange.contributions, turn)
            assert exchange.finish()
            vector, stats = case.total(turn)
            expected += vector
            assert target.array[: case.length].tobytes() == expected.tobytes()
            assert exchange.stats.tobytes() == stats.tobytes()

    run_threads(len(drawn.host_of_rank), body, host_of_rank=drawn.host_of_rank, halving=drawn.halving)


@few
@given(drawn=cases())
def test_what_lies_on_each_rank_is_put_together(drawn: SimpleNamespace) -> None:
    case: Case = drawn.case
    alignment = 1024
    whole = np.random.default_rng(case.length).standard_normal(case.length)

    def body(comm: ThreadCommunicator) -> None:
        exchange, _ = sharded(comm, case, bucket=drawn.bucket, alignment=alignment)
        own = np.concatenate([whole[part] for part in exchange.parts] or [np.empty(0)])
        assert exchange.spread is not None
        for dealing in (drawn.dealing, Dealing(drawn.dealing.chunk)):  # one vector after the other
            assert_dealt(comm, partial(exchange.spread.deal, own), dealing, whole)
        firsts = [[whole[i]] for part in exchange.parts for i in range(part.start, part.stop, alignment)]
        gather = exchange.cell_gather(range(0, case.length, alignment), 1)
        assert gather(np.array(firsts).reshape(-1, 1)).tolist() == whole[::alignment, None].tolist()

    run_threads(len(drawn.host_of_rank), body, host_of_rank=drawn.host_of_rank, halving=drawn.halving)


@pytest.mark.parametrize("halving", [False, True])
@pytest.mark.parametrize("bucket", [0, 1500])
@pytest.mark.parametrize("host_of_rank", LAYOUTS.values(), ids=LAYOUTS)
def test_nothing_is_touched_before_it_is_ready(host_of_rank: list[int], bucket: int, halving: bool) -> None:
    """Each rank fills its vectors from the end, in partitions and at times of its own, over what must not be seen."""
    case = Case(9, 6000, np.float32, 2)

    def body(comm: ThreadCommunicator) -> None:
        random = np.random.default_rng(comm.rank)
        exchange = comm.exchange(case.shards, case.length, case.dtype, case.stats, bucket=bucket)
        for turn in range(4):
            filled = [case.part(turn, each.subtree) for each in exchange.contributions]
            exchange.start(lambda: True)
            for each, (_, stats) in zip(exchange.contributions, filled, strict=True):
                each.vector[...], each.stats[...] = np.nan, stats
            marks = random.choice(case.length, random.integers(0, 6), replace=False).tolist()
            for start, stop in pairwise([case.length, *sorted(marks, reverse=True), 0]):
                time.sleep(random.exponential(0.002))
                for each, (vector, _) in zip(exchange.contributions, filled, strict=True):
                    each.vector[stop:start] = vector[stop:start]
                exchange.ready(stop)
            exchange.finish()
            check_sums(exchange, case, turn)

    run_threads(len(host_of_rank), body, host_of_rank=host_of_rank, halving=halving)


def test_one_copy_of_the_sums_for_each_host() -> None:
    def body(comm: ThreadCommunicator) -> tuple[str, ReplicatedExchange]:
        return comm.host, comm.exchange(8, 1000, np.float32, 1)

    replies = run_threads(6, body, host_of_rank=LAYOUTS["3 + 1 + 2 in no order"])
    copies = {(host, exchange.vector.ctypes.data) for host, exchange in replies}
    assert len(copies) == len({host for host, _ in copies}) == len({address for _, address in copies}) == 3


def test_segments_begin_at_pages() -> None:
    """So that each rank's vectors lie in the memory that is near to it."""

    def body(comm: ThreadCommunicator) -> None:
        exchange, _ = sharded(comm, Case(7, 1001, np.float32, 3))
        assert all(each.vector.ctypes.data % mmap.PAGESIZE == 0 for each in exchange.contributions)

    run_threads(3, body)


@pytest.mark.parametrize("where", ["before the first bucket", "in a bucket", "before the end"])
@pytest.mark.parametrize("bucket_size", [0, 1000])
def test_an_error_within_a_step_is_raised_by_finish_and_the_next_step_is_whole(bucket_size: int, where: str) -> None:
    case = Case(4, 4000, np.float32, 1)
    exchange, target = sharded(SerialCommunicator(), case, bucket=bucket_size)

    def update(part: int) -> None:
        target.array[exchange.parts[part]] = sum_of(exchange, part, case.dtype)

    def fails() -> bool:
        for number, bucket in enumerate(exchange.buckets() if where != "before the first bucket" else ()):
            if number == (1 if bucket_size else 0) and where == "in a bucket":
                break
            bucket.send()
        raise ZeroDivisionError("within the step")

    exchange.start(fails)
    exchange.ready(0)
    with pytest.raises(ZeroDivisionError, match="within the step"):
        exchange.finish()
    exchange.start(step_of(exchange, update))
    case.fill(exchange.contributions, 0)
    assert exchange.finish() is True
    assert target.array[: case.length].tobytes() == case.total(0)[0].tobytes()


@pytest.mark.parametrize("bucket", [0, 1000])
def test_an_error_on_one_rank_releases_the_others(bucket: int) -> None:
    case = Case(4, 4000, np.float32, 1)
    errors: dict[int, type[Exception]] = {}

    def body(comm: ThreadCommunicator) -> None:
        exchange, _ = sharded(comm, case, bucket=bucket)

        exchange.start(step_of(exchange, lambda part: 1 // (comm.rank - 1)))  # fails on rank 1 alone
        try:
            exchange.finish()
        except (ZeroDivisionError, CommunicatorError) as error:
            errors[comm.rank] = type(error)
            raise

    with pytest.raises(ZeroDivisionError):
        run_threads(3, body, timeout_s=20)
    assert errors == {0: CommunicatorError, 1: ZeroDivisionError, 2: CommunicatorError}
