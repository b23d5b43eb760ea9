"""Measuring sums, on ranks that are threads: what is measured, in which order, and what must not be measured at all."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, ThreadLinks, run_threads
from hpcnn.errors import CommunicatorError, HpcnnError
from hpcnn.tools.bench import allreduce
from hpcnn.tools.bench.allreduce import MIN_REPEATS, AllreduceBench, SizeTimes, check_sum, in_turn, sizes_between


def test_sizes() -> None:
    assert sizes_between(4, 2**28, 4) == [4**power for power in range(1, 15)]
    assert sizes_between(8, 100, 2) == [8, 16, 32, 64]
    assert sizes_between(12, 12, 4) == [12]
    assert sizes_between(4**7, 4**9, 4) == [4**7, 4**8, 4**9]


def bench(comm: ThreadCommunicator, made: list | None = None, **options) -> AllreduceBench:
    """Return a benchmark against hpcnn itself, whose exchanges are added to `made`."""
    settings = {"dtype": np.float32, "repeats": 5, "seconds": 0.02} | options
    links = partial(ThreadLinks, comm._world, comm.rank)

    def rival(*arguments):
        exchange = comm.exchange(*arguments)
        if made is not None:
            made.append(exchange)
        return exchange

    return AllreduceBench(comm, make_rival=rival, make_links=links, **settings)


@pytest.mark.parametrize(
    ("host_of_rank", "limit", "by_host"),
    [([0, 0, 0], "memory copy", [3]), ([0, 1, 1], "wire", [1, 2]), ([0, 1, 0], "wire", [2, 1])],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_size_is_measured(host_of_rank, limit, by_host, dtype) -> None:
    sizes = [8, 4096, 100_000]
    made: list = []

    def body(comm: ThreadCommunicator):
        return bench(comm, made if comm.rank == 1 else None, dtype=dtype).run(sizes)

    everyone = run_threads(3, body, host_of_rank=host_of_rank)
    assert [(exchange.vector.nbytes, exchange.vector.dtype) for exchange in made] == [(n, dtype) for n in sizes]
    assert everyone[0] == everyone[1] == everyone[2]
    times = everyone[0]
    assert (times.limit, times.ranks_by_node, times.notes) == (limit, by_host, [])
    assert [one.size for one in times.sizes] == sizes
    for one in times.sizes:
        assert MIN_REPEATS <= len(one.ours) == len(one.mpi) == len(one.limit) <= 5
        assert min(one.ours + one.mpi + one.limit) > 0


def test_one_rank_is_told_to_start_several() -> None:
    with pytest.raises(CommunicatorError, match=r"one rank has no other rank to exchange with. Start several: mpirun"):
        AllreduceBench(SerialCommunicator(), dtype=np.float32, repeats=3, seconds=1)


# ----------------------------------------------------------------------------------------------------------- the clock


def test_the_slowest_rank_counts_and_actions_take_turns() -> None:
    def body(comm: ThreadCommunicator) -> tuple[list[str], list[list[float]]]:
        calls: list[str] = []

        def act(name: str, seconds: float) -> None:
            calls.append(name)
            time.sleep(seconds)

        slow = 0.1 if comm.rank == 1 else 0.002
        return calls, in_turn(comm, [partial(act, "a", 0.002), partial(act, "b", slow)], 4, 60)

    everyone = run_threads(2, body)
    for calls, (a, b) in everyone:
        assert "".join(calls) == "ab" * 6  # two of them to find out how long it takes
        assert len(a) == len(b) == 4
        assert 0.002 <= min(a) < 0.1
        assert min(b) >= 0.1


def test_repeats_end_with_the_time_but_there_are_a_few() -> None:
    def body(comm: ThreadCommunicator, repeats: int, seconds: float) -> int:
        (times,) = in_turn(comm, [lambda: time.sleep(0.01)], repeats, seconds)
        return len(times)

    assert run_threads(2, partial(body, repeats=100, seconds=0.001)) == [MIN_REPEATS] * 2
    assert run_threads(2, partial(body, repeats=6, seconds=60)) == [6] * 2
    (between, _) = run_threads(2, partial(body, repeats=100, seconds=0.2))
    assert MIN_REPEATS < between <= 20


def test_short_calls_are_repeated_and_the_time_is_of_one() -> None:
    def body(comm: ThreadCommunicator) -> tuple[int, float]:
        calls = 0

        def act() -> None:
            nonlocal calls
            calls += 1

        (times,) = in_turn(comm, [act], 3, 60)
        return calls, min(times)

    for calls, least in run_threads(2, body):
        assert calls > 100
        assert least < 1e-4


# ------------------------------------------------------------------------------------------------- sums that are wrong


def test_a_wrong_sum_is_found() -> None:
    def body(comm: ThreadCommunicator) -> None:
        exchange = comm.exchange(comm.size, 1000, np.float32, 0)
        check_sum(comm, exchange, "the right one")
        allreduce = exchange.allreduce

        def faulty() -> None:
            allreduce()
            exchange.vector = exchange.vector.copy()
            exchange.vector[999] += comm.rank == 2

        exchange.allreduce = faulty
        check_sum(comm, exchange, "the wrong one")

    with pytest.raises(CommunicatorError, match=r"rank 2 on .*: the sum of 4,000 bytes by the wrong one is wrong"):
        run_threads(3, body)


def test_after_the_check_sums_stay_finite() -> None:
    def body(comm: ThreadCommunicator) -> float:
        exchange = comm.exchange(comm.size, 1000, np.float32, 0)
        check_sum(comm, exchange, "this")
        for _ in range(200):  # 3 to the power of 200 is no float32
            exchange.allreduce()
        return float(np.abs(exchange.vector).max())

    assert run_threads(3, body) == [0.0] * 3


# ---------------------------------------------------------------------------------------------------------- the memory


def run_with_memory(monkeypatch: pytest.MonkeyPatch, free: list[int | None], host_of_rank: list[int], sizes: list[int]):
    def body(comm: ThreadCommunicator):
        made = bench(comm)
        comm.allgather = lambda value: free  # what every rank would say
        try:
            return made._affordable(sizes)
        finally:
            del comm.allgather

    monkeypatch.setattr(allreduce, "free_memory", lambda: 0)
    return run_threads(len(free), body, host_of_rank=host_of_rank)[0]


def test_sizes_that_memory_can_not_hold_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [1000, 2000, 4000]
    need = 7 * 2 + 5  # vectors on a host of two ranks
    for free, fitting in ((4000 * need / 0.8, 3), (4000 * need / 0.8 - 10, 2), (1000 * need / 0.8, 1)):
        got, notes = run_with_memory(monkeypatch, [None, int(free) + 1], [0, 0], sizes)
        assert got == sizes[:fitting]
        assert len(notes) == (fitting < 3)
    assert notes[0].startswith("sizes above 1,000 bytes are left out for want of memory: 2 ranks of a node hold 19 vec")
    with pytest.raises(HpcnnError, match=r"memory is too short: .* Start fewer ranks a node, or give a smaller --min"):
        run_with_memory(monkeypatch, [100, 10**9], [0, 0], sizes)


def test_the_tightest_host_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_with_memory(monkeypatch, [10**9, 10**9, 40_000], [0, 0, 1], [1000, 2000, 4000])[0] == [1000, 2000]
    assert run_with_memory(monkeypatch, [40_000, 40_000, 10**9], [0, 0, 1], [1000, 2000, 4000])[0] == [1000]
    assert run_with_memory(monkeypatch, [None, None, None], [0, 0, 1], [2**40]) == ([2**40], [])


# --------------------------------------------------------------------------------------------------------- the figures


def test_what_the_figures_mean() -> None:
    times = SizeTimes(8_000_000, ours=[1e-3, 2e-3, 4e-3], mpi=[3e-3, 4e-3, 4e-3], limit=[0.5e-3, 0.5e-3, 3e-3])
    assert times.ratio == 2.0  # of 3, 2 and 1
    assert times.share == 0.5  # of 0.5, 0.25 and 0.75
    assert times.bus_bandwidth(2) == pytest.approx(4e9)
    assert times.bus_bandwidth(4) == pytest.approx(6e9)
