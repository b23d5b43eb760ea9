"""Every collective of the drop-in, in eager code and in graphs: `check_*` functions that all ranks of mpirun run."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import hpcnn.keras as hvd
from hpcnn.errors import CommunicatorError
from tests.mpi.checks import run_checks

NUMBERS = ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int32", "int64"]

REDUCTIONS = [(hvd.Sum, np.sum), (hvd.Average, np.mean), (hvd.Min, np.min), (hvd.Max, np.max), (hvd.Product, np.prod)]


def in_graph(function):
    """Run `function` on a tensor within a graph."""
    return tf.function(function, autograph=False)


def as_integers(tensor) -> list:
    return tf.cast(tensor, "int32").numpy().tolist()


def of_ranks(make) -> np.ndarray:
    return np.stack([make(rank) for rank in range(hvd.size())])


def tree_sum(values):
    """Add along the tree, one leaf a rank."""
    if len(values) == 1:
        return values[0]
    middle = len(values) // 2
    return tree_sum(values[:middle]) + tree_sum(values[middle:])


def draws(rank: int, shape=(5, 7)) -> np.ndarray:
    return np.random.default_rng(rank).standard_normal(shape).astype(np.float32)


def check_ranks() -> None:
    assert hvd.is_initialized()
    assert 0 <= hvd.local_rank() < hvd.local_size() <= hvd.size()
    assert (hvd.cross_rank(), hvd.cross_size(), hvd.is_homogeneous()) == (0, 1, True)
    assert hvd.mpi_built()
    assert hvd.mpi_enabled() == hvd.mpi_threads_supported() == (hvd.size() > 1)
    assert not any([hvd.nccl_built(), hvd.gloo_built(), hvd.cuda_built(), hvd.gloo_enabled()])


def check_allreduce_of_every_type() -> None:
    numbers = np.array([[1, 2, 1], [3, 2, 3]])
    for name in NUMBERS:
        own = tf.cast(tf.constant(numbers) + hvd.rank(), name)
        for op, reduce in REDUCTIONS:
            expected = reduce(of_ranks(lambda rank: numbers + rank), axis=0)
            if "int" in name:
                expected = np.floor(expected)
            got = hvd.allreduce(own, op=op)
            assert (got.dtype, got.shape) == (own.dtype, own.shape)
            np.testing.assert_allclose(tf.cast(got, "float64"), expected, rtol=0.01)


def check_allreduce_in_graphs() -> None:
    own = [tf.constant([1.0, 2.0]) + hvd.rank(), tf.cast([[1, 2]], "bfloat16"), tf.cast([3], "int64")]

    @tf.function
    def reduce_all():
        return [hvd.allreduce(tensor, op=op) for tensor in own for op, _ in REDUCTIONS]

    for got, tensor, (_, reduce) in zip(reduce_all(), np.repeat(range(3), 5), REDUCTIONS * 3, strict=True):
        everyone = of_ranks(lambda rank, tensor=tensor: np.array([1, 2]) + rank if tensor == 0 else own[tensor].numpy())
        assert got.shape == own[tensor].shape
        np.testing.assert_allclose(tf.cast(got, "float64"), reduce(everyone.astype(float), axis=0), rtol=0.01)


def check_sums_follow_the_tree_on_all_ranks() -> None:
    expected = tree_sum([draws(rank) for rank in range(hvd.size())])
    for _ in range(3):
        got = hvd.allreduce(tf.constant(draws(hvd.rank())), op=hvd.Sum)
        assert got.numpy().tobytes() == expected.tobytes()
    everyone = hvd.allgather_object(got.numpy().tobytes())
    assert set(everyone) == {everyone[0]}


def check_numbers_arrays_and_truth() -> None:
    mean = (hvd.size() - 1) / 2
    assert hvd.allreduce(float(hvd.rank())).numpy() == pytest.approx(mean)
    assert hvd.allreduce(float(hvd.rank()), average=False).numpy() == pytest.approx(mean * hvd.size())
    assert hvd.allreduce(float(hvd.rank()), False).numpy() == pytest.approx(mean * hvd.size())
    assert hvd.allreduce(np.float64(hvd.rank())).dtype == tf.float64
    assert hvd.allreduce(tf.Variable(1.0), op=hvd.Sum).numpy() == hvd.size()
    assert bool(hvd.allreduce(tf.constant(hvd.rank() == 0), op=hvd.Max))
    assert bool(hvd.allreduce(tf.constant(hvd.rank() == 0), op=hvd.Min)) == (hvd.size() == 1)
    with pytest.raises(CommunicatorError, match=r"Sum of Booleans .* is not defined"):
        hvd.allreduce(tf.constant(True), op=hvd.Sum)
    assert hvd.allreduce(tf.zeros((0, 3))).shape == (0, 3)


def check_scaling_and_compression() -> None:
    own = tf.constant(draws(hvd.rank()))
    exact = of_ranks(draws).mean(axis=0)
    scaled = hvd.allreduce(own, prescale_factor=0.5, postscale_factor=4.0)
    np.testing.assert_allclose(scaled, 2 * exact, rtol=1e-5, atol=1e-6)
    for compression, tolerance in ((hvd.Compression.fp16, 2e-3), (hvd.Compression.bf16, 2e-2)):
        rounded = hvd.allreduce(own, compression=compression)
        assert rounded.dtype == tf.float32
        np.testing.assert_allclose(rounded, exact, atol=tolerance)
        assert hvd.size() == 1 or not np.allclose(rounded, exact, rtol=0, atol=1e-7)
        small, before = compression.compress(own)
        assert small.dtype.size == 2
        assert compression.decompress(small, before).dtype == tf.float32


def check_grouped_allreduce_of_mixed_types() -> None:
    own = [tf.fill((3,), hvd.rank()), tf.fill((2, 2), float(hvd.rank())), tf.constant(1.0), tf.zeros((0,))]
    for call in (hvd.grouped_allreduce, in_graph(hvd.grouped_allreduce)):
        got = call(own, op=hvd.Sum)
        total = sum(range(hvd.size()))
        assert [tensor.numpy().tolist() for tensor in got] == [
            [total] * 3,
            [[float(total)] * 2] * 2,
            float(hvd.size()),
            [],
        ]


def check_derivatives() -> None:
    x = tf.Variable([1.0, 2.0])
    for op, factor in ((hvd.Sum, hvd.size()), (hvd.Average, 1)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(hvd.allreduce(x * x, op=op))
        assert tape.gradient(loss, x).numpy().tolist() == [2.0 * factor, 4.0 * factor]


def check_allgather() -> None:
    expected = np.concatenate([np.full((rank + 1, 2), rank) for rank in range(hvd.size())])
    for dtype in ("int32", "bfloat16", "bool"):
        own = tf.cast(tf.fill((hvd.rank() + 1, 2), hvd.rank()), dtype)
        for call in (hvd.allgather, in_graph(hvd.allgather)):
            got = call(own)
            assert got.dtype == own.dtype
            assert as_integers(got) == as_integers(tf.cast(expected, dtype))
    assert hvd.allgather(tf.constant(hvd.rank())).numpy().tolist() == list(range(hvd.size()))


def check_broadcast() -> None:
    root = hvd.size() - 1
    for dtype in ("float32", "bfloat16", "bool", "int64"):
        own = tf.cast(tf.fill((3,), hvd.rank()), dtype)
        for call in (hvd.broadcast, in_graph(lambda tensor, root_rank: hvd.broadcast(tensor, root_rank))):
            got = call(own, root_rank=root)
            assert (got.dtype, got.shape) == (own.dtype, own.shape)
            assert as_integers(got) == as_integers(tf.cast([root] * 3, dtype))
    variables = [tf.Variable(draws(hvd.rank())), tf.Variable(hvd.rank()), tf.Variable([True])]
    hvd.broadcast_variables(variables, root_rank=root)
    assert variables[0].numpy().tobytes() == draws(root).tobytes()
    assert variables[1].numpy() == root
    with pytest.raises(CommunicatorError, match=r"root_rank 9 is not one of the ranks"):
        hvd.broadcast(tf.constant(1.0), root_rank=9)
    with pytest.raises(CommunicatorError, match=r"Use broadcast_variables\(model.weights, root_rank=0\)"):
        hvd.broadcast_global_variables(0)


def check_objects() -> None:
    assert hvd.broadcast_object({"rank": hvd.rank()}, hvd.size() - 1) == {"rank": hvd.size() - 1}
    assert hvd.allgather_object(("rank", hvd.rank())) == [("rank", rank) for rank in range(hvd.size())]
    hvd.barrier()


def check_alltoall() -> None:
    size, rank = hvd.size(), hvd.rank()
    assert hvd.alltoall(tf.range(size) + 10 * rank).numpy().tolist() == [10 * other + rank for other in range(size)]
    splits = tf.range(size)  # rank r gets r rows from each
    own = tf.fill((sum(range(size)), 2), float(rank))
    for call in (hvd.alltoall, in_graph(hvd.alltoall)):
        got, counts = call(own, splits)
        assert counts.numpy().tolist() == [rank] * size
        assert got.numpy().tolist() == [[float(other)] * 2 for other in range(size) for _ in range(rank)]
    with pytest.raises(CommunicatorError, match=r"alltoall on rank 0: splits .* must be \d+ numbers of rows"):
        hvd.alltoall(own, [1] * (size + 1))


def check_reducescatter() -> None:
    rows = 2 * hvd.size() + 1
    got = hvd.reducescatter(tf.reshape(tf.range(float(rows)), (rows, 1)), op=hvd.Sum).numpy()
    assert len(got) == 2 + (hvd.rank() == 0)
    start = 2 * hvd.rank() + (hvd.rank() > 0)
    assert got[:, 0].tolist() == [float(row * hvd.size()) for row in range(start, start + len(got))]


def check_process_sets() -> None:
    if hvd.size() < 3:
        return
    pair = hvd.add_process_set(hvd.ProcessSet([0, 2]))
    assert (pair.process_set_id, pair.size(), pair.included()) == (1, 2, hvd.rank() != 1)
    if pair.included():
        assert pair.rank() == hvd.rank() // 2
        assert hvd.allreduce(float(hvd.rank()), op=hvd.Sum, process_set=pair).numpy() == 2
        assert hvd.broadcast(float(hvd.rank()), 2, process_set=pair).numpy() == 2
        assert hvd.allgather(tf.fill((1,), hvd.rank()), process_set=pair).numpy().tolist() == [0, 2]
    else:
        with pytest.raises(CommunicatorError, match=r"rank 1 is not in ProcessSet\(\[0, 2\]\)"):
            hvd.allreduce(1.0, process_set=pair)
    with pytest.raises(CommunicatorError, match=r"a process set of the ranks \[0, 2\] already"):
        hvd.add_process_set([2, 0])
    with pytest.raises(CommunicatorError, match="and no others"):
        hvd.add_process_set([0, 3])
    assert hvd.remove_process_set(pair)
    assert not hvd.remove_process_set(pair)
    assert not hvd.remove_process_set(hvd.global_process_set)


def check_ranks_that_disagree() -> None:
    if hvd.size() == 1:
        return
    last = hvd.rank() == hvd.size() - 1
    differ = "the ranks do not make the same call: rank 0 makes .*, rank 2 "
    for one, other in (
        (lambda: hvd.allreduce(tf.zeros(3)), lambda: hvd.allreduce(tf.zeros(4))),
        (lambda: hvd.allreduce(tf.zeros(3)), lambda: hvd.allreduce(tf.zeros(3, "float64"))),
        (lambda: hvd.allreduce(tf.zeros(3)), lambda: hvd.allreduce(tf.zeros(3), op=hvd.Max)),
        (lambda: hvd.allreduce(tf.zeros(3)), lambda: hvd.broadcast(tf.zeros(3))),
        (lambda: hvd.broadcast(tf.zeros(3), 0), lambda: hvd.broadcast(tf.zeros(3), 1)),
        (lambda: hvd.allgather(tf.zeros((1, 3))), lambda: hvd.allgather(tf.zeros((1, 4)))),
        (hvd.barrier, lambda: hvd.allreduce(1.0)),
    ):
        with pytest.raises(CommunicatorError, match=differ):
            (other if last else one)()
    assert hvd.allreduce(1.0, op=hvd.Sum).numpy() == hvd.size()  # still in step


def check_join() -> None:
    steps = 1 + hvd.rank()
    for step in range(steps):
        total = hvd.allreduce(tf.ones(3), op=hvd.Sum)
        assert total.numpy().tolist() == [float(hvd.size() - step)] * 3
    assert hvd.join() == hvd.size() - 1
    if hvd.size() > 1:
        with pytest.raises(CommunicatorError, match="take part in sums and means alone"):
            hvd.join() if hvd.rank() else hvd.allgather(tf.zeros(1))


def check_wrong_settings() -> None:
    for settings, message in (
        ({"op": "Sum"}, "op='Sum' is not one of Average, Sum"),
        ({"op": hvd.Sum, "average": True}, "give only op"),
        ({"compression": "fp16"}, "compression='fp16' is not one of hpcnn's"),
    ):
        with pytest.raises(CommunicatorError, match=message):
            hvd.allreduce(1.0, **settings)


def main() -> None:
    """Run all checks."""
    hvd.init()
    hvd.init()  # of no effect
    run_checks(globals(), hvd)
    hvd.shutdown()
    assert not hvd.is_initialized()
    with pytest.raises(CommunicatorError, match=r"call init\(\) first"):
        hvd.rank()
    hvd.init()


if __name__ == "__main__":
    main()
