"""What every communicator must do. Subclasses say how to run a body on P ranks; `python -m` runs it under mpirun."""

from __future__ import annotations

import operator
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import pytest

from hpcnn.comm.collectives import TreeReduction, Variant, agree, first_or_raise, gather_or_raise, variants_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.errors import DataError, PeerError
from tests.comm import exchanges

Check = Callable[[Communicator], None]


def check_identity(comm: Communicator) -> None:
    everyone = comm.allgather((comm.rank, comm.size, comm.hosts, comm.host))
    assert [rank for rank, *_ in everyone] == list(range(comm.size))
    assert {(size, hosts) for _, size, hosts, _ in everyone} == {(comm.size, comm.hosts)}
    assert comm.hosts >= len({host for *_, host in everyone})  # more where memory is not shared
    assert 0 <= comm.local_rank < comm.local_size <= comm.size


def check_host_array(comm: Communicator) -> None:
    for shared in (False, True):
        for length, dtype in ((1, np.float32), (10_000, np.float64)):
            array = comm.host_array(length, dtype, shared=shared)
            assert (array.array.shape, array.array.dtype) == ((length,), dtype)
            assert not array.array.any()
            assert array.array.ctypes.data % 64 == 0
            array.barrier()
            if array.writes:
                array.array[...] = 7 + comm.rank
            array.barrier()
            seen = comm.allgather((comm.host, array.writes, float(array.array[-1])))
            _, writes, value = seen[comm.rank]
            assert value == 7 + comm.rank if writes else value < 7 + comm.rank
            wrote = {(host, 7.0 + rank) for rank, (host, writes, _) in enumerate(seen) if writes}
            assert all((host, value) in wrote for host, _, value in seen)
            array.broadcast()
            assert (array.array == 7).all()
            array.barrier()


def check_array_that_is_not_shared_is_each_ranks_own(comm: Communicator) -> None:
    array = comm.host_array(3, np.float32, shared=False)
    assert array.writes
    array.array[...] = comm.rank
    comm.barrier()
    assert array.array.tolist() == [comm.rank] * 3


def check_nothing_to_note(comm: Communicator) -> None:
    assert comm.notes == []


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


def check_values_are_merged_in_the_order_of_ranks(comm: Communicator) -> None:
    assert comm.allreduce([comm.rank], operator.add) == list(range(comm.size))
    assert comm.allreduce(comm.rank, max) == comm.size - 1


def check_variants(comm: Communicator) -> None:
    """Of the values of all ranks each is there once, with the first rank that has it; no value counts as none."""
    hosts = comm.allgather(comm.host)
    found = variants_or_raise(comm, {"group": comm.rank // 2})
    assert found == [Variant({"group": rank // 2}, rank, hosts[rank]) for rank in range(0, comm.size, 2)]
    assert variants_or_raise(comm, comm.rank, lambda left, right: True) == [Variant(0, 0, hosts[0])]
    assert variants_or_raise(comm, None) == []
    last = comm.size - 1
    assert first_or_raise(comm, comm.rank if comm.rank == last else None) == last
    assert first_or_raise(comm, comm.rank) == 0


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
    for meet in (gather_or_raise, variants_or_raise, first_or_raise):
        with pytest.raises((DataError, PeerError), match="can't read the first piece"):
            agree(comm, lambda meet=meet: leaf(0) if comm.rank == comm.size - 1 else meet(comm, 1))
    assert comm.allgather(1) == [1] * comm.size


CHECKS: dict[str, Check] = {
    name: check for name, check in sorted((globals() | vars(exchanges)).items()) if name.startswith("check_")
}


class CommunicatorConformance(ABC):
    """Subclass it for a new communicator and set `sizes`."""

    sizes: tuple[int, ...]

    @abstractmethod
    def run(self, size: int, check: Check) -> None:
        """Run the check on `size` ranks; raise if it fails on any."""

    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_conformance(self, check: Check) -> None:
        for size in self.sizes:
            self.run(size, check)


def main() -> None:
    """Run all checks on the ranks of mpirun, with and without shared memory, and print a line for each."""
    from hpcnn.comm.abort import abort_job
    from hpcnn.comm.connect import connect
    from hpcnn.comm.mpi import SHARING, MpiCommunicator

    comm = connect()
    try:
        _check_all(comm)
        os.environ[SHARING] = "off"
        _check_all(MpiCommunicator())
    except BaseException:
        import traceback

        traceback.print_exc()
        abort_job(1)


def run_checks(comm: Communicator) -> tuple[int, str, int]:
    """Run all checks; return their number, the kind of communicator, and how many copies of an array there are."""
    for check in CHECKS.values():
        check(comm)
    copies = sum(comm.allgather(comm.host_array(1, np.float32, shared=True).writes))
    return len(CHECKS), type(comm).__name__, copies


def _check_all(comm: Communicator) -> None:
    checks, kind, copies = run_checks(comm)
    if comm.rank == 0:
        sys.stdout.write(f"{checks} checks passed on {comm.size} ranks as {kind}, copies of an array: {copies}\n")


if __name__ == "__main__":
    main()
