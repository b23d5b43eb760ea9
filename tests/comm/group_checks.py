"""What a group of ranks must do with a user's arrays. Run by threads in pytest, and by `python -m` under mpirun."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np
import pytest

from hpcnn.comm.tensors.call_matching import ReduceOp
from hpcnn.comm.tensors.tensor_group import TensorGroup
from hpcnn.core.tree import fold_leaves
from hpcnn.errors import CommunicatorError

Check = Callable[[TensorGroup], None]


def draws(rank: int, shape: tuple[int, ...] = (3, 5), dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng([rank, *shape]).standard_normal(shape).astype(dtype)


def check_sums_of_many_arrays_follow_the_tree(group: TensorGroup) -> None:
    size, rank = group.comm.size, group.comm.rank
    shapes = [(3, 5), (), (1000,), (0, 2), (7,), (40_000,)]
    kinds = ["float32", "float64", "float32", "float32", "float16", "float32"]
    for _ in range(3):  # buffers are used again
        got = group.allreduce([draws(rank, s, k) for s, k in zip(shapes, kinds, strict=True)], ReduceOp.SUM)
        for array, shape, kind in zip(got, shapes, kinds, strict=True):
            expected = fold_leaves((0, size), lambda r, s=shape, k=kind: draws(r, s, k), np.add)
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
            assert array.tobytes() == expected.tobytes()


def check_other_lengths_in_the_same_buffers(group: TensorGroup) -> None:
    """What a longer array left in the buffers grows there, unseen and without a warning."""
    for length in (1000, 993, 999, 994) * 40:
        got = group.allreduce([np.full(length, 4.0, np.float32), np.ones(3, np.float32)], ReduceOp.SUM)
        assert (got[0] == 4 * group.comm.size).all()
        assert (got[1] == group.comm.size).all()


def check_results_outlive_the_next_call(group: TensorGroup) -> None:
    first = group.allreduce([np.ones(100)], ReduceOp.SUM)[0]
    group.allreduce([np.zeros(100)], ReduceOp.SUM)
    assert (first == group.comm.size).all()


def check_other_reductions(group: TensorGroup) -> None:
    size, rank = group.comm.size, group.comm.rank
    everyone = [draws(r) for r in range(size)]
    for op, reduce in ((ReduceOp.MIN, np.min), (ReduceOp.MAX, np.max)):
        assert (group.allreduce([draws(rank)], op)[0] == reduce(everyone, axis=0)).all()
    np.testing.assert_allclose(
        group.allreduce([draws(rank)], ReduceOp.PRODUCT)[0], np.prod(everyone, axis=0), rtol=1e-5
    )
    assert group.allreduce([np.array([-7 * size - 1])], ReduceOp.AVERAGE)[0] == [-(7 * size**2 + size) // size]
    doubled = group.allreduce([np.ones(3)], ReduceOp.AVERAGE, prescale=0.5, postscale=4)[0]
    assert doubled.tolist() == [2.0] * 3


def check_the_type_on_the_wire(group: TensorGroup) -> None:
    own = [draws(group.comm.rank), np.arange(3), draws(group.comm.rank, dtype="float64")]
    for array, given in zip(group.allreduce(own, ReduceOp.SUM, wire=np.dtype("float16")), own, strict=True):
        assert array.dtype == given.dtype
        if given.dtype.kind == "f":
            assert (array == array.astype("float16")).all()


def check_rows_of_unequal_number(group: TensorGroup) -> None:
    size, rank = group.comm.size, group.comm.rank
    got = group.allgather(np.full((rank, 2), rank, np.int16))
    assert got.tolist() == [[r, r] for r in range(size) for _ in range(r)]
    got, counts = group.alltoall(np.full((sum(range(size)), 1), rank), list(range(size)))
    assert (got[:, 0].tolist(), counts) == ([r for r in range(size) for _ in range(rank)], [rank] * size)
    parts = group.allgather(group.reducescatter([np.arange(2 * size + 1)], ReduceOp.SUM)[0])
    assert parts.tolist() == [n * size for n in range(2 * size + 1)]


def check_broadcast(group: TensorGroup) -> None:
    for root in {0, group.comm.size - 1}:
        own = [draws(group.comm.rank), np.array(group.comm.rank), np.array([True, group.comm.rank == root])]
        got = group.broadcast(own, root)
        assert got[0].tobytes() == draws(root).tobytes()
        assert (got[1], got[2].tolist()) == (root, [True, True])
        assert group.broadcast_object([group.comm.rank], root) == [root]
    with pytest.raises(CommunicatorError, match="root rank 99 is not in 0 to"):
        group.broadcast_object(None, 99)


def check_each_rank_is_told_of_another_call(group: TensorGroup) -> None:
    last = group.comm.size - 1
    if last == 0:
        return
    for length in (3, 100_000):
        with pytest.raises(CommunicatorError, match=rf"rank 0 makes .*\(3,\), rank {last} .*\({length}, 1\)"):
            group.allreduce([np.ones((length, 1) if group.comm.rank == last else 3)], ReduceOp.SUM)
    with pytest.raises(CommunicatorError, match=rf"rank 0 makes barrier, rank {last} the end of its program"):
        group.leave() if group.comm.rank == last else group.agree_on("barrier")
    group.agree_on("barrier")


def check_join(group: TensorGroup) -> None:
    size, rank = group.comm.size, group.comm.rank
    for step in range(size - rank):  # rank 0 makes the most
        assert group.allreduce([np.ones(2)], ReduceOp.SUM)[0].tolist() == [size - step] * 2
    assert group.join() == 0
    assert group.join() == size - 1  # all at once


CHECKS: dict[str, Check] = {name: check for name, check in sorted(globals().items()) if name.startswith("check_")}


def main() -> None:
    """Run all checks on the ranks of mpirun, and on a part of them, with and without shared memory."""
    from hpcnn.comm.abort import abort_job
    from hpcnn.comm.connect import connect
    from hpcnn.comm.mpi import SHARING, MpiCommunicator
    from hpcnn.comm.tensors.groups import group_of, group_of_all

    comm = connect()
    try:
        for setting in ("", "off"):
            os.environ[SHARING] = setting
            group = group_of_all(comm if not setting else MpiCommunicator())
            part = [group, group_of([0, comm.size - 1], group)] if comm.rank in (0, comm.size - 1) else [group]
            for each in part[: 1 if setting else 2]:
                for check in (
                    CHECKS.values() if each is group else [CHECKS["check_sums_of_many_arrays_follow_the_tree"]]
                ):
                    check(each)
    except BaseException:
        import traceback

        traceback.print_exc()
        abort_job(1)
    if comm.rank == 0:
        sys.stdout.write(f"{len(CHECKS)} checks passed on {comm.size} ranks\n")


if __name__ == "__main__":
    main()
