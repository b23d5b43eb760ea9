"""Compressed sums, against the definition word for word: rounded by groups, with what earlier roundings owe."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest

from hpcnn.comm.exchange.compression import feed_back
from hpcnn.comm.exchange.formats import FORMATS
from hpcnn.comm.exchange.plan import Topology
from hpcnn.comm.protocol import Array, Communicator, Compression, Exchange, ReplicatedExchange
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.core.dealing import Dealing
from hpcnn.core.tree import maximal_subtrees
from hpcnn.errors import CheckpointError
from tests.comm.exchanges import Case, _tree_sum
from tests.comm.rounding import nearest
from tests.timing import WAIT_S

TURNS = 3
CASES = {
    "long": (Case(8, 66_003, np.float32, 3), ("bf16", "fp16")),
    "float64": (Case(8, 1001, np.float64, 1), ("bf16", "fp16")),
    "7 shards": (Case(7, 500, np.float32, 2), ("bf16",)),
    "few entries": (Case(12, 5, np.float32, 1), ("bf16",)),
}
SETTINGS = [(name, kind) for name, (_, kinds) in CASES.items() for kind in kinds]
LAYOUTS: list[list[int]] = [[0], [0, 0, 0], [0, 1], [0, 1, 0, 1], [0, 1, 1], [0, 1, 2, 3, 3]]


@lru_cache(maxsize=64)
def expected(case: Case, compression: Compression, turns: int = TURNS) -> tuple[list[Array], dict[str, Array]]:
    """Return the sum of each turn, and what is owed in the end, by the definition."""
    groups = groups_of(case.shards, compression.groups)
    owed = {name: np.zeros(case.length, case.dtype) for name in [*(f"group_{i}" for i in range(len(groups))), "total"]}

    def rounded(sums: Array, name: str) -> Array:
        whole = sums + owed[name]
        result = nearest(compression.kind, whole)
        owed[name] = whole - result
        return result

    def total(parts: list[Array]) -> Array:
        if len(parts) == 1:
            return parts[0]
        return total(parts[: len(parts) // 2]) + total(parts[len(parts) // 2 :])

    sums = []
    for turn in range(turns):
        parts = [rounded(_tree_sum(case, turn, *group)[0], f"group_{i}") for i, group in enumerate(groups)]
        sums.append(rounded(total(parts), "total"))
    return sums, owed


def groups_of(shards: int, count: int) -> list[tuple[int, int]]:
    subtrees = [(0, shards)]
    while len(subtrees) < count:
        subtrees = [half for lo, hi in subtrees for half in ((lo, (lo + hi) // 2), ((lo + hi) // 2, hi))]
    return subtrees


def run(layout: list[int], body: Callable[[Communicator], object], *, halving: bool = False) -> None:
    if len(layout) == 1:
        body(SerialCommunicator())
    else:
        run_threads(len(layout), body, host_of_rank=layout, timeout_s=WAIT_S, halving=halving)


def run_both(layout: list[int], body: Callable[[Communicator], object]) -> None:
    """Run it by both algorithms that there are between hosts."""
    for halving in (False, True)[: min(2, len(set(layout)))]:
        run(layout, body, halving=halving)


def sum_all(comm: Communicator, exchange: ReplicatedExchange, case: Case, turns: Sequence[int]) -> list[Array]:
    """Return the sums of these turns."""
    sums = []
    for turn in turns:
        case.fill(exchange.contributions, turn)
        exchange.allreduce()
        sums.append(exchange.vector.copy())
        assert exchange.stats.tobytes() == case.total(turn)[1].tobytes()  # never rounded
        comm.barrier()  # a neighbour may still read them
    return sums


def assert_bits(got: Sequence[Array], wanted: Sequence[Array]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def owed_by(exchange: Exchange) -> dict[str, Array]:
    """Return what all ranks owe, on rank 0; nothing elsewhere."""
    assert exchange.residuals is not None
    residuals, dealing = exchange.residuals, Dealing(1000)
    vectors = {name: sorted(residuals.deal(name, dealing), key=lambda chunk: chunk.number) for name in residuals.names}
    return {name: np.concatenate([chunk.entries for chunk in chunks]) for name, chunks in vectors.items() if chunks}


def assert_owed(got: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert got.keys() == wanted.keys()
    assert_bits(list(got.values()), list(wanted.values()))


def test_groups_are_the_subtrees_of_one_depth_and_cut_what_ranks_contribute() -> None:
    for shards in range(1, 20):
        for groups in (1, 2, 4, 8, 16):
            if groups <= shards:
                assert maximal_subtrees(shards, (0, shards), groups) == groups_of(shards, groups)
    assert Topology.of([0, 0, 1]).rank_subtrees(8, 2, groups=4) == [(5, 6), (6, 8)]
    assert Topology.of([0, 0, 1]).host_subtrees(8, 0, groups=4) == [(0, 2), (2, 4), (4, 5)]


def test_a_group_is_at_home_where_all_its_shards_are() -> None:
    topology = Topology.of([0, 0, 1])
    assert [topology.home_of(8, subtree) for subtree in groups_of(8, 4)] == [0, 0, None, 1]
    assert [topology.home_of(8, subtree) for subtree in groups_of(8, 2)] == [0, None]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("name", "kind"), SETTINGS)
def test_sums_follow_the_definition(name: str, kind: str, layout: list[int]) -> None:
    case = CASES[name][0]

    def body(comm: Communicator) -> None:
        for groups in (1, 2, 4):
            compression = Compression(kind, groups)
            sums, owed = expected(case, compression)
            for bucket in (0, case.length // 3):
                exchange = comm.exchange(
                    case.shards, case.length, case.dtype, case.stats, bucket=bucket, compression=compression
                )
                assert_bits(sum_all(comm, exchange, case, range(TURNS)), sums)
                state = owed_by(exchange)
                if comm.rank == 0:
                    assert_owed(state, owed)
                else:
                    assert state == {}

    run_both(layout, body)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("name", "kind"), [("long", "bf16"), ("float64", "fp16"), ("few entries", "bf16")])
def test_sharded_sums_follow_the_definition(name: str, kind: str, layout: list[int]) -> None:
    case = CASES[name][0]

    def body(comm: Communicator) -> None:
        for groups, bucket, alignment in ((1, 0, 1), (2, case.length // 3, 1), (4, case.length // 4, 1024)):
            compression = Compression(kind, groups)
            sums, owed = expected(case, compression)
            target = comm.host_array(case.length, case.dtype, shared=True)
            exchange = comm.sharded_exchange(
                case.shards,
                target,
                case.length,
                case.stats,
                bucket=bucket,
                alignment=alignment,
                compression=compression,
            )
            for turn in range(TURNS):
                assert_bits([sharded_sum(comm, exchange, target.array, case, turn, alignment)], [sums[turn]])
            state = owed_by(exchange)
            if comm.rank == 0:
                assert_owed(state, owed)

    run_both(layout, body)


def sharded_sum(comm: Communicator, exchange: Exchange, target: Array, case: Case, turn: int, alignment: int) -> Array:
    """Return the sum of a turn; where there is a alignment, all before the first update, as for a norm."""
    parts = [np.empty(part.stop - part.start, case.dtype) for part in exchange.parts]

    def step() -> bool:
        buckets = exchange.buckets()
        if alignment > 1:
            buckets = list(buckets)
            for number, part in enumerate(parts):
                exchange.sum_into(number, part)
        for bucket in buckets:
            for number in bucket.parts:
                if alignment == 1:
                    exchange.sum_into(number, parts[number])
                target[exchange.parts[number]] = parts[number]
            bucket.send()
        return exchange.complete(True)

    exchange.start(step)
    case.fill(exchange.contributions, turn)
    exchange.ready(case.length // 2)
    assert exchange.finish() is True
    result = target.copy()
    comm.barrier()
    return result


@pytest.mark.parametrize(
    ("before", "after"), [([0, 1, 1], [0]), ([0], [0, 0, 1, 1]), ([0, 1, 0, 1], [0, 1, 2])], ids=str
)
@pytest.mark.parametrize("halving", [False, True])
def test_what_is_owed_goes_on_with_other_ranks(before: list[int], after: list[int], halving: bool) -> None:
    case, compression = CASES["long"][0], Compression("bf16", 2)
    sums, owed = expected(case, compression)
    kept: dict[str, Array] = {}

    def exchange_of(comm: Communicator) -> ReplicatedExchange:
        return comm.exchange(case.shards, case.length, case.dtype, case.stats, bucket=9000, compression=compression)

    def first(comm: Communicator) -> None:
        exchange = exchange_of(comm)
        assert_bits(sum_all(comm, exchange, case, [0]), sums[:1])
        kept.update(owed_by(exchange))

    def second(comm: Communicator) -> None:
        exchange = exchange_of(comm)
        assert exchange.residuals is not None
        exchange.residuals.load(kept)
        assert_bits(sum_all(comm, exchange, case, range(1, TURNS)), sums[1:])
        state = owed_by(exchange)
        if comm.rank == 0:
            assert_owed(state, owed)

    run(before, first, halving=True)
    run(after, second, halving=halving)


def test_what_another_job_owes_is_refused() -> None:
    exchange = SerialCommunicator().exchange(8, 10, np.float32, 1, compression=Compression("bf16", 2))
    assert exchange.residuals is not None
    for names, size in ((["group_0", "total"], 10), (["group_0", "group_1", "total"], 9)):
        with pytest.raises(CheckpointError, match=r"the state of the compression is another's: the file holds"):
            exchange.residuals.load({name: np.zeros(size, np.float32) for name in names})


def test_without_compression_nothing_is_owed() -> None:
    assert SerialCommunicator().exchange(8, 10, np.float32, 1).residuals is None


@pytest.mark.parametrize("layout", [[0], [0, 0], [0, 1]], ids=str)
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_what_is_not_finite_is_seen_by_all_and_owes_nothing(kind: str, layout: list[int]) -> None:
    case, compression = Case(4, 200, np.float32, 1), Compression(kind, 2)
    sums, owed = expected(case, compression, 1)
    values = {3: np.nan, 50: np.inf, 120: 1e5, 199: -np.inf}
    bad = [place for place in values if kind == "fp16" or place != 120]

    def body(comm: Communicator) -> None:
        exchange = comm.exchange(4, 200, np.float32, 1, compression=compression)
        with np.errstate(all="ignore"):
            case.fill(exchange.contributions, 0)
            for part in exchange.contributions:
                if part.subtree == (2, 4):
                    part.vector[list(values)] = list(values.values())
            exchange.allreduce()
        fine = np.isfinite(exchange.vector)
        assert np.flatnonzero(~fine).tolist() == bad
        good = np.delete(np.arange(200), list(values))
        assert exchange.vector[good].tobytes() == sums[0][good].tobytes()
        state = owed_by(exchange)
        if state:
            assert not state["group_1"][bad].any()
            assert not state["total"][bad].any()
            assert state["group_1"][good].tobytes() == owed["group_1"][good].tobytes()
            assert state["group_0"].tobytes() == owed["group_0"].tobytes()

    run(layout, body)


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_over_many_steps_nothing_is_lost_but_the_last_rounding(kind: str) -> None:
    """What was given and what is owed add up to what was to be given. Without feedback most of it drifts."""
    random = np.random.default_rng(5)
    form, wire = FORMATS[kind](), FORMATS[kind]().empty(20)
    steady = random.standard_normal(20).astype(np.float32) * np.float32(0.01)
    residual, zeros = np.zeros(20, np.float32), np.zeros(20, np.float32)
    exact, given, without = ([Fraction(0)] * 20 for _ in range(3))
    steps = 300
    for _ in range(steps):
        step = steady + np.float32(1e-6) * random.standard_normal(20).astype(np.float32)
        fed, plain = step.copy(), step.copy()
        feed_back(form, fed, residual, wire)
        feed_back(form, plain, zeros, wire)
        zeros[...] = 0
        exact = [total + Fraction(float(value)) for total, value in zip(exact, step, strict=True)]
        given = [total + Fraction(float(value)) for total, value in zip(given, fed, strict=True)]
        without = [total + Fraction(float(value)) for total, value in zip(without, plain, strict=True)]
    bits = {"bf16": 8, "fp16": 11}[kind]
    drifts = 0
    for place in range(20):
        unit = Fraction(max(abs(float(steady[place])) + 1e-3, 2.0**-14)) / 2**bits  # of one rounding, nearly
        left = exact[place] - given[place]
        assert abs(left - Fraction(float(residual[place]))) < steps * unit / 2 ** (23 - bits)  # S + e is rounded too
        assert abs(left) <= 2 * unit
        drifts += abs(exact[place] - without[place]) > 8 * unit
    assert drifts > 10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_a_step_allocates_nothing_large(kind: str, dtype: type) -> None:
    exchange = SerialCommunicator().exchange(4, 200_000, dtype, 1, compression=Compression(kind, 4))
    for part in exchange.contributions:
        part.vector[...] = 1
    exchange.allreduce()
    tracemalloc.start()
    try:
        exchange.allreduce()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 65536
