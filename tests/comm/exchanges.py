"""What the exchanges of every communicator must do: sums of known vectors, in both kinds of exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
import pytest

from hpcnn.comm.exchange.buffers import BLOCK
from hpcnn.comm.protocol import Array, Communicator, Contribution, Exchange, HostArray, UpdateStep
from hpcnn.core.dealing import Chunk, Dealing
from hpcnn.core.tree import Subtree
from hpcnn.errors import CommunicatorError


@dataclass(frozen=True)
class Case:
    """An exchange, with what each shard adds to it in each turn."""

    shards: int
    length: int
    dtype: type
    stats: int

    def leaf(self, turn: int, shard: int) -> tuple[Array, Array]:
        random = np.random.default_rng([self.shards, self.length, turn, shard])
        scale = 10.0 ** random.integers(-3, 4)  # so that any other order of additions shows
        return (
            (scale * random.standard_normal(self.length)).astype(self.dtype),
            scale * random.standard_normal(self.stats),
        )

    def part(self, turn: int, subtree: Subtree) -> tuple[Array, Array]:
        """Return what a rank that has these leaves contributes: vector and stats."""
        return _tree_sum(self, turn, *subtree)

    def total(self, turn: int) -> tuple[Array, Array]:
        """Return what the exchange must come to."""
        return self.part(turn, (0, self.shards))

    def fill(self, contributions: Sequence[Contribution], turn: int) -> None:
        """Write what one rank contributes."""
        for each in contributions:
            each.vector[...], each.stats[...] = self.part(turn, each.subtree)


@lru_cache(maxsize=1024)  # ranks that are threads all ask for the same
def _tree_sum(case: Case, turn: int, lo: int, hi: int) -> tuple[Array, Array]:
    """The definition, word for word."""
    if hi - lo == 1:
        return case.leaf(turn, lo)
    middle = (lo + hi) // 2
    (left, left_stats), (right, right_stats) = _tree_sum(case, turn, lo, middle), _tree_sum(case, turn, middle, hi)
    return left + right, left_stats + right_stats


EXCHANGES = [
    Case(8, 1000, np.float32, 5),
    Case(8, 100_003, np.float32, 5),
    Case(12, 5, np.float64, 1),
    Case(7, 77_777, np.float64, 3),
    Case(64, 300, np.float32, 40),
    Case(5, 1, np.float32, 1),
    Case(13, 40_000, np.float32, 2),
]
SOME = [EXCHANGES[1], EXCHANGES[3], EXCHANGES[5]]


def check_exchange_follows_the_tree(comm: Communicator) -> None:
    for case in EXCHANGES:
        for bucket in (0, case.length // 3):
            exchange = comm.exchange(case.shards, case.length, case.dtype, case.stats, bucket=bucket)
            for turn in range(3):  # buffers are used again
                case.fill(exchange.contributions, turn)
                exchange.allreduce()
                vector, stats = case.total(turn)
                assert exchange.vector.dtype == case.dtype
                assert exchange.vector.tobytes() == vector.tobytes()
                assert exchange.stats.tobytes() == stats.tobytes()


def check_exchange_buffers_are_aligned(comm: Communicator) -> None:
    exchange = comm.exchange(8, 1001, np.float32, 3)
    for array in (exchange.vector, *(part.vector for part in exchange.contributions)):
        assert array.ctypes.data % 64 == 0


def sharded(comm: Communicator, case: Case, *, bucket: int = 0, alignment: int = 1) -> tuple[Exchange, HostArray]:
    """Return a sharded exchange with its target, which is longer than what the exchange is for."""
    target = comm.host_array(case.length + 2, case.dtype, shared=True)
    return comm.sharded_exchange(
        case.shards, target, case.length, case.stats, bucket=bucket, alignment=alignment
    ), target


def sum_of(exchange: Exchange, part: int, dtype: type) -> Array:
    """Return the sum of the part of that number."""
    own = exchange.parts[part]
    out = np.empty(own.stop - own.start, dtype)
    exchange.sum_into(part, out)
    return out


def step_of(exchange: Exchange, update: Callable[[int], object]) -> UpdateStep:
    """Return the step that updates each part by `update`, which says whether something is wrong."""

    def step() -> bool:
        wrong = False
        for bucket in exchange.buckets():
            for part in bucket.parts:
                wrong |= bool(update(part))
            bucket.send()
        return exchange.complete(not wrong)

    return step


def check_sharded_exchange_follows_the_tree(comm: Communicator) -> None:
    for case in EXCHANGES:
        for bucket, alignment in ((0, 1), (case.length // 3, 64)):
            exchange, target = sharded(comm, case, bucket=bucket, alignment=alignment)

            def update(part: int, exchange=exchange, target=target, case=case) -> None:
                target.array[exchange.parts[part]] -= sum_of(exchange, part, case.dtype)

            expected = np.zeros(case.length, case.dtype)
            for turn in range(2):
                exchange.start(step_of(exchange, update))
                case.fill(exchange.contributions, turn)
                exchange.ready(case.length // 2)
                assert exchange.finish() is True
                vector, stats = case.total(turn)
                expected -= vector
                assert target.array[: case.length].tobytes() == expected.tobytes()
                assert not target.array[case.length :].any()
                assert exchange.stats.tobytes() == stats.tobytes()


def check_parts_cover_the_vector_once(comm: Communicator) -> None:
    for case in SOME:
        for bucket, alignment in ((0, 1), (case.length // 3, 1), (30_000, 1024)):
            exchange, _ = sharded(comm, case, bucket=bucket, alignment=alignment)
            parts = sorted(part for own in comm.allgather([(p.start, p.stop) for p in exchange.parts]) for part in own)
            assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
            assert parts[-1][1] == case.length
            assert all(0 < stop - start <= BLOCK for start, stop in parts)
            ends = [(before, after) for before, after in pairwise(parts) if before[1] % BLOCK]
            assert all(before[1] % alignment == 0 for before, _ in ends)


def check_what_is_wrong_on_one_rank_is_known_to_all(comm: Communicator) -> None:
    case = Case(8, 80_000, np.float32, 1)
    for bucket in (0, 40_000):
        exchange, _ = sharded(comm, case, bucket=bucket)
        for culprit in (None, *range(comm.size), None):
            for place in (0, len(exchange.parts) - 1):
                wrong = (place, culprit)
                exchange.start(step_of(exchange, lambda part, wrong=wrong: (part, comm.rank) == wrong))
                assert exchange.finish() is (culprit is None)


def check_all_sums_before_the_first_update(comm: Communicator) -> None:
    """As for the norm of the whole vector, by which each part is scaled."""
    alignment = 128
    for case in SOME:
        cells = sorted({*range(0, case.length, alignment), *(place for place in (5, 77, 300) if place < case.length)})
        for bucket in (0, case.length // 3):
            exchange, target = sharded(comm, case, bucket=bucket, alignment=alignment)
            gather = exchange.cell_gather(cells, 2)
            rows: list[Array] = []

            def step(exchange=exchange, target=target, case=case, cells=cells, gather=gather, rows=rows) -> bool:
                buckets = list(exchange.buckets())
                assert not any(target.array[part].any() for part in exchange.parts)  # neighbours may be further
                sums = [sum_of(exchange, part, case.dtype) for part in range(len(exchange.parts))]
                own = [
                    (float(values[cell - part.start]), cell)
                    for part, values in zip(exchange.parts, sums, strict=True)
                    for cell in cells
                    if part.start <= cell < part.stop
                ]
                rows.append(gather(np.array(own).reshape(-1, 2)))
                for each in buckets:
                    for part in each.parts:
                        target.array[exchange.parts[part]] = sums[part]
                    each.send()
                return exchange.complete(True)

            exchange.start(step)
            case.fill(exchange.contributions, 0)
            assert exchange.finish() is True
            vector, _ = case.total(0)
            assert [each.tolist() for each in rows] == [[[float(vector[cell]), cell] for cell in cells]]
            assert target.array[: case.length].tobytes() == vector.tobytes()


def check_every_rank_updates_the_whole_of_what_is_replicated(comm: Communicator) -> None:
    for case in EXCHANGES:
        for bucket in (0, case.length // 3):
            exchange = comm.exchange(case.shards, case.length, case.dtype, case.stats, bucket=bucket)
            assert exchange.keeps_sums
            target = np.zeros(case.length, case.dtype)

            def update(part: int, exchange=exchange, target=target, case=case) -> None:
                for _ in range(2):  # it can be taken twice
                    target[exchange.parts[part]] += sum_of(exchange, part, case.dtype)

            exchange.start(step_of(exchange, update))
            case.fill(exchange.contributions, 0)
            exchange.ready(0)
            assert exchange.finish() is True
            vector, stats = case.total(0)
            assert target.tobytes() == (vector + vector).tobytes()
            assert exchange.stats.tobytes() == stats.tobytes()
            values = np.random.default_rng(comm.rank).standard_normal((3, 2))
            assert exchange.cell_gather([0], 2)(values) is values
            assert exchange.spread is None


def assert_dealt(comm: Communicator, deal: Callable[[Dealing], Iterator[Chunk]], dealing: Dealing, whole: Array) -> int:
    """Check that each chunk of a vector comes to one rank, and is written once; return how many came here."""
    own = [(number, entries.tobytes(), skipped) for number, entries, skipped in deal(dealing)]
    everyone = comm.allgather(own)
    chunks = sorted(chunk for each in everyone for chunk in each)
    assert [number for number, _, _ in chunks] == list(range(max(1, -(-whole.size // dealing.chunk))))
    assert dealing.shared or not any(everyone[1:])
    written = np.zeros(whole.size, np.int64)
    for number, entries, skipped in chunks:
        start = number * dealing.chunk
        stop = start + len(entries) // whole.itemsize
        assert entries == whole[start:stop].tobytes()
        assert min(start + dealing.chunk, whole.size) <= stop <= start + dealing.chunk + dealing.margin
        written[start + skipped : stop] += 1
    assert (written == 1).all()
    return len(own)


def check_state_of_all_ranks_is_dealt(comm: Communicator) -> None:
    for case in SOME:
        for bucket in (0, case.length // 3):
            exchange, _ = sharded(comm, case, bucket=bucket)
            whole = np.random.default_rng(1).standard_normal(case.length)
            own = np.concatenate([whole[part] for part in exchange.parts] or [np.empty(0)])
            assert exchange.spread is not None
            deal = partial(exchange.spread.deal, own)
            for chunk in (case.length // 5 + 1, case.length + 1):
                assert_dealt(comm, deal, Dealing(chunk), whole)
                for margin, kept in ((0, 1.0), (chunk, 0.0), (chunk // 3, 0.5)):
                    assert_dealt(comm, deal, Dealing(chunk, margin, shared=True, kept=kept), whole)


def check_too_many_ranks(comm: Communicator) -> None:
    if comm.size > 1:
        target = comm.host_array(10, np.float32, shared=True)
        with pytest.raises(CommunicatorError, match=rf"{comm.size} ranks for {comm.size - 1} gradient shard"):
            comm.exchange(comm.size - 1, 10, np.float32, 1)
        with pytest.raises(CommunicatorError, match=rf"{comm.size} ranks for {comm.size - 1} gradient shard"):
            comm.sharded_exchange(comm.size - 1, target, 10, 1)
