"""Evaluation and the loaders: the same bits on any number of ranks, also on more of them than there are pieces."""

import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.data.rows import ArrayRows
from hpcnn.runs.build import build_replica, build_spec
from hpcnn.training.loader import Order, PieceLoader, ShardLoader
from hpcnn.training.loop import evaluate
from tests.small_jobs import make_job

METRICS = ["accuracy", "f1", "confusion_matrix"]
JOB = make_job(train={"metrics": METRICS, "dtype": "float64"})  # float32 losses add up exactly: no order would show
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(23, 5)), RNG.integers(0, 3, 23)


def evaluated(ranks, piece_size, *, prefix=""):
    def body(comm):
        # The replica itself talks to nobody here: there may be more ranks than shards.
        replica = build_replica(JOB, build_spec(JOB, (5,)), SerialCommunicator())
        loader = PieceLoader(ArrayRows(X), ArrayRows(Y), piece_size=piece_size, input_shape=(5,), dtype=np.float64)
        return evaluate(comm, replica.model, loader, prefix=prefix), replica

    return run_threads(ranks, body)


def bits(values):
    return {name: np.asarray(value).tobytes() for name, value in values.items()}


@pytest.mark.parametrize("piece_size", [1, 4, 10, 23, 100])
def test_any_number_of_ranks_gives_the_same_bits(piece_size):
    one = bits(evaluated(1, piece_size)[0][0])
    for ranks in (2, 3, 5, 7, 9):
        for values, _ in evaluated(ranks, piece_size):
            assert bits(values) == one


def test_values_are_those_of_all_samples_at_once_with_the_penalty_in_the_loss():
    ((values, replica),) = evaluated(1, 4, prefix="val_")
    outputs = replica.model.predict_piece(X)
    assert replica.model.penalty() > 0.05
    loss = -np.log(outputs[np.arange(23), Y]).mean() + replica.model.penalty()
    assert list(values) == ["val_loss", *(f"val_{name}" for name in METRICS)]
    assert values["val_loss"] == pytest.approx(loss, rel=1e-5)
    assert values["val_accuracy"] == np.mean(outputs.argmax(axis=1) == Y)
    assert values["val_confusion_matrix"].sum() == 23


def piece_loader(x, y=None, **changes):
    options = {"piece_size": 4, "input_shape": x.shape[1:], "dtype": np.float32} | changes
    return PieceLoader(ArrayRows(x), None if y is None else ArrayRows(y), **options)


@pytest.mark.parametrize(("piece_size", "sizes"), [(1, [1] * 23), (4, [4] * 5 + [3]), (23, [23]), (99, [23])])
def test_pieces_are_all_rows_in_order(piece_size, sizes):
    loader = piece_loader(X, Y, piece_size=piece_size)
    assert (loader.pieces, loader.samples) == (len(sizes), 23)
    pieces = [[array.copy() for array in loader.piece(i)[:2]] for i in range(loader.pieces)]
    assert [len(x) for x, _ in pieces] == sizes
    np.testing.assert_array_equal(np.concatenate([x for x, _ in pieces]), X.astype(np.float32))
    np.testing.assert_array_equal(np.concatenate([y for _, y in pieces]), Y)


@pytest.mark.parametrize(("dtype", "given", "taken"), [
    (np.float32, np.int8, np.int64), (np.float32, np.uint16, np.int64), (np.float64, np.int64, np.int64),
    (np.float32, np.float64, np.float32), (np.float64, np.float32, np.float64),
])  # fmt: skip
def test_inputs_and_values_get_the_type_of_the_job_and_labels_stay_whole(dtype, given, taken):
    x, y, _ = piece_loader(X, Y.astype(given), dtype=dtype).piece(1)
    assert (x.dtype, y.dtype) == (dtype, taken)


def test_inputs_get_the_shape_of_the_network():
    loader = piece_loader(X, input_shape=(5, 1))
    assert loader.inputs(5).shape == (3, 5, 1)
    np.testing.assert_array_equal(loader.inputs(0)[..., 0], X[:4].astype(np.float32))


def shard_loader(**changes):
    order = Order(seed=1, shuffle=changes.pop("shuffle", True))
    options = {"batch_size": 10, "shards": 4, "order": order, "input_shape": (5,), "dtype": np.float64}
    return ShardLoader(ArrayRows(X), ArrayRows(Y), **options | changes)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("batch_size", "shards"), [(10, 4), (23, 1), (4, 7), (1, 3)])
def test_shards_of_an_epoch_are_each_sample_once(shuffle, batch_size, shards):
    loader, epochs = shard_loader(batch_size=batch_size, shards=shards, shuffle=shuffle), []
    assert loader.steps_per_epoch == -(-23 // batch_size)
    for epoch in range(2):
        loader.start_epoch(epoch)
        parts = [
            [array.copy() for array in loader.shards(step, shard, shard + 1)[:2]]
            for step in range(loader.steps_per_epoch)
            for shard in range(shards)
        ]
        rows = np.concatenate([np.column_stack(part) for part in parts])
        epochs.append(rows)
        np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(np.column_stack([X, Y]), axis=0))
        assert len(rows) == 23
    assert np.array_equal(*epochs) is not shuffle
    assert np.array_equal(epochs[0], np.column_stack([X, Y])) is not shuffle
