"""What every communicator must do. Subclasses say how to run a body on P ranks; `python -m` runs it under mpirun."""

from __future__ import annotations

import hashlib
import sys
from abc import ABC, abstractmethod

import numpy as np
import pytest

from hpcnn.comm.collective import TreeReduction, agree
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import CommunicatorError, DataError, PeerError
from hpcnn.tree import leaf_steps

EXCHANGES = [
    # shards, length, type, tail
    (8, 1000, np.float32, 5),
    (8, 100_003, np.float32, 5),
    (12, 5, np.float64, 1),
    (7, 77_777, np.float64, 3),
    (64, 300, np.float32, 40),
    (5, 1, np.float32, 1),
    (13, 40_000, np.float32, 2),
]


def _leaf(case: int, turn: int, shard: int) -> tuple[np.ndarray, np.ndarray]:
    _, length, dtype, tail = EXCHANGES[case]
    random = np.random.default_rng([case, turn, shard])
    return random.standard_normal(length).astype(dtype), random.standard_normal(tail)


def _tree_sum(case: int, turn: int, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition, word for word."""
    if hi - lo == 1:
        return _leaf(case, turn, lo)
    middle = (lo + hi) // 2
    (left, left_tail), (right, right_tail) = _tree_sum(case, turn, lo, middle), _tree_sum(case, turn, middle, hi)
    return left + right, left_tail + right_tail


def check_identity(comm: Communicator) -> None:
    everyone = comm.allgather((comm.rank, comm.size, comm.local_size, comm.host))
    assert [rank for rank, *_ in everyone] == list(range(comm.size))
    assert {size for _, size, *_ in everyone} == {comm.size}
    assert 0 <= comm.local_rank < comm.local_size <= comm.size


def check_exchange_follows_the_tree(comm: Communicator) -> None:
    for case, (shards, length, dtype, tail) in enumerate(EXCHANGES):
        exchange = comm.exchange(shards, length, dtype, tail)
        for turn in range(3):  # buffers are used again
            for contribution in exchange.contributions:
                vectors, tails = {}, {}
                for step in leaf_steps(contribution.node):
                    vectors[step.slot], tails[step.slot] = _leaf(case, turn, step.leaf)
                    for left, right in step.fold:
                        vectors[left] = vectors[left] + vectors[right]
                        tails[left] = tails[left] + tails[right]
                contribution.vector[...], contribution.tail[...] = vectors[0], tails[0]
            exchange.allreduce()
            vector, sums = _tree_sum(case, turn, 0, shards)
            assert exchange.vector.dtype == dtype
            assert exchange.vector.tobytes() == vector.tobytes()
            assert exchange.tail.tobytes() == sums.tobytes()


def check_exchange_buffers_are_aligned(comm: Communicator) -> None:
    exchange = comm.exchange(8, 1001, np.float32, 3)
    for array in (exchange.vector, *(part.vector for part in exchange.contributions)):
        assert array.ctypes.data % 64 == 0


def check_too_many_ranks(comm: Communicator) -> None:
    if comm.size > 1:
        with pytest.raises(CommunicatorError, match=rf"{comm.size} ranks for {comm.size - 1} gradient shard"):
            comm.exchange(comm.size - 1, 10, np.float32, 1)


def check_broadcast(comm: Communicator) -> None:
    assert comm.broadcast({"from": comm.rank}) == {"from": 0}
    for dtype in (np.float32, np.float64, np.int64):
        array = np.arange(7, dtype=dtype) + comm.rank
        comm.broadcast_array(array)
        assert array.tolist() == list(range(7))


def check_gather_arrays(comm: Communicator) -> None:
    for columns in (0, 1, 3):
        parts = comm.gather_arrays(np.full((comm.rank, columns), comm.rank, np.float32))
        if comm.rank == 0:
            assert parts is not None
            assert [part.shape for part in parts] == [(rank, columns) for rank in range(comm.size)]
            assert all((part == rank).all() for rank, part in enumerate(parts))
        else:
            assert parts is None


def check_tree_reduction(comm: Communicator) -> None:
    def leaf(i: int) -> np.ndarray:
        return np.random.default_rng(i).standard_normal(3)

    def total(lo: int, hi: int) -> np.ndarray:
        return leaf(lo) if hi - lo == 1 else total(lo, (lo + hi) // 2) + total((lo + hi) // 2, hi)

    for leaves in (1, 2, 3, 11):  # also fewer leaves than ranks
        assert TreeReduction(comm).sum(leaves, leaf).tobytes() == total(0, leaves).tobytes()
        assert (
            TreeReduction(comm).max(leaves, leaf).tolist() == np.max([leaf(i) for i in range(leaves)], axis=0).tolist()
        )


def check_agree(comm: Communicator) -> None:
    assert agree(comm, lambda: comm.rank) == comm.rank

    def fails_on_last() -> None:
        if comm.rank == comm.size - 1:
            raise DataError("a bad file")

    with pytest.raises((DataError, PeerError), match="a bad file") as caught:
        agree(comm, fails_on_last)
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, DataError) == (comm.rank == comm.size - 1)


def check_agree_within_a_reduction(comm: Communicator) -> None:
    """A rank that fails while the others are in a later collective meets them there."""

    def leaf(i: int) -> np.ndarray:
        if i == 0:
            raise DataError("can't read the first piece")
        return np.ones(1)

    def action() -> None:
        TreeReduction(comm).sum(comm.size, leaf)
        TreeReduction(comm).sum(comm.size, lambda _: np.ones(1))

    with pytest.raises((DataError, PeerError), match="can't read the first piece"):
        agree(comm, action)
    assert TreeReduction(comm).sum(comm.size, lambda _: np.ones(1)) == [comm.size]  # still in step


CHECKS = [check for name, check in sorted(globals().items()) if name.startswith("check_")]


class CommunicatorConformance(ABC):
    """Subclass it for a new communicator and set `sizes`."""

    sizes: tuple[int, ...]

    @abstractmethod
    def run(self, size: int, check_name: str) -> None:
        """Run the check of that name on `size` ranks; raise if it fails on any."""

    @pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
    def test_conformance(self, check: str) -> None:
        for size in self.sizes:
            self.run(size, check)


def main() -> None:
    """Run all checks on the ranks of mpirun, and print a line that names them, with the bits of one exchange."""
    from hpcnn.comm.connect import connect

    comm = connect()
    try:
        for check in CHECKS:
            check(comm)
    except BaseException:
        import traceback

        traceback.print_exc()
        comm.abort(1)
    digest = hashlib.sha256(b"".join(part.tobytes() for part in _tree_sum(1, 0, 0, 8))).hexdigest()
    if comm.rank == 0:
        sys.stdout.write(f"{len(CHECKS)} checks passed on {comm.size} ranks as {type(comm).__name__}, {digest}\n")


if __name__ == "__main__":
    main()
