from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.tensors.call_matching import Call, ReduceOp, check_reducible, fuse, rounded_up
from hpcnn.comm.tensors.groups import group_of_all
from hpcnn.comm.tensors.tensor_group import TensorGroup
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import CommunicatorError
from tests.comm.group_checks import CHECKS, Check
from tests.timing import WAIT_S


class ThreadMoves:
    """Bytes between threads."""

    def __init__(self, comm: ThreadCommunicator) -> None:
        self._comm = comm

    def broadcast(self, data: np.ndarray, root: int) -> None:
        data[...] = self._comm.share(data.copy())[root]

    def allgather(self, data: np.ndarray, counts: Sequence[int]) -> np.ndarray:
        parts = self._comm.share(data.copy())
        assert [part.size for part in parts] == list(counts)
        return np.concatenate(parts)

    def alltoall(self, data: np.ndarray, sent: Sequence[int], received: Sequence[int]) -> np.ndarray:
        assert sum(sent) == data.size
        own = [np.split(part, np.cumsum(counts)[:-1]) for part, counts in self._comm.share((data.copy(), sent))]
        parts = [pieces[self._comm.rank] for pieces in own]
        assert [part.size for part in parts] == list(received)
        return np.concatenate(parts)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_on_threads(check: Check, size: int) -> None:
    run_threads(size, lambda comm: check(TensorGroup(comm, ThreadMoves(comm), range(size))), timeout_s=WAIT_S)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_on_one_rank(check: Check) -> None:
    check(group_of_all(SerialCommunicator()))


def test_few_buffers_serve_any_length() -> None:
    lengths = [rounded_up(length) for length in range(1, 100_000)]
    assert all(length <= room <= length * 17 / 16 + 1 for length, room in enumerate(lengths, start=1))
    assert len(set(lengths)) < 300


def test_arrays_of_a_type_are_aligned() -> None:
    f4, f8 = np.dtype("float32"), np.dtype("float64")
    one, other = fuse((((3,), f4), ((2,), f8), ((5, 5), f4)))
    assert (one.dtype, one.places, one.length) == (f4, ((0, slice(0, 3)), (2, slice(16, 41))), 41)
    assert (other.dtype, other.places) == (f8, ((1, slice(0, 2)),))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Call("a"), Call("b")),
        (Call("a", (((2,), np.dtype("f4")),)), Call("a", (((2,), np.dtype("f8")),))),
        (Call("a", (((2,), np.dtype("f4")),)), Call("a", (((1, 2), np.dtype("f4")),))),
        (Call("a", (), (ReduceOp.SUM,)), Call("a", (), (ReduceOp.MIN,))),
    ],
)
def test_other_calls_have_other_digests(one: Call, other: Call) -> None:
    assert one.digest == Call(one.kind, one.specs, one.detail).digest
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("op", "dtype", "message"),
    [
        (ReduceOp.SUM, "U3", "Sum needs numbers"),
        (ReduceOp.MAX, "O", "Max needs numbers"),
        (ReduceOp.AVERAGE, "?", r"Average of Booleans .* Use Min"),
    ],
)
def test_what_can_not_be_reduced(op: ReduceOp, dtype: str, message: str) -> None:
    with pytest.raises(CommunicatorError, match=message):
        check_reducible(op, [((2,), np.dtype(dtype))])
