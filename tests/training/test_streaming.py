"""Data that are read while the training goes on: every sample once, with the same bits whoever reads them how."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.core.tree import owned_leaves
from hpcnn.data.chunks import replaced, stored
from hpcnn.data.rows import ArrayRows, ScaledRows, SubsetRows
from hpcnn.errors import DataError, JobError
from hpcnn.runs.build import build_training
from hpcnn.training.loader import Order, Reads, ShardLoader
from hpcnn.training.read_ahead import ReadAhead
from hpcnn.training.windows import Windows
from tests.require import require
from tests.small_jobs import make_job, train

ROWS, CHUNK = 61, 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.h5"
    rng = np.random.default_rng(0)
    with require("h5py").File(path, "w") as made:
        x = rng.normal(size=(ROWS, 5)).astype("f4")
        made.create_dataset("x", data=x, chunks=(CHUNK, 5), compression="gzip")
        made.create_dataset("y", data=(x[:, 0] > 0) + 1 * (x[:, 1] > 0), chunks=(7,), compression="gzip")
    return path


def job_of(path, *, train=None, **data):
    """Return a job over the file, of batches of 13 samples in windows of 3 chunks."""
    kind = {"source": "hdf5", "path": str(path), "validation_fraction": 0.2, "scale": "standardize"}
    return make_job(data=kind | data, train=train or {})


WINDOWS = {"order": "windows", "window_chunks": 3}
WAYS = {
    "on demand": {"keep": "file", "prefetch": 0},
    "read ahead": {"keep": "file", "prefetch": 2},
    "far ahead": {"keep": "file", "prefetch": 9},
    "kept": {"keep": "memory"},
    "by default": {},
}


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == "hpcnn-read-ahead"]


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
@pytest.mark.parametrize("order", [{"order": "global"}, WINDOWS], ids=["global", "windows"])
def test_the_bits_are_the_same_however_the_rows_are_read(file, order, arithmetic):
    setting = {"arithmetic": arithmetic}
    one = train(job_of(file, keep="file", prefetch=0, train=setting, **order))
    assert one.done
    for ranks, way in zip((1, 2, 3, 5, 4), WAYS.values(), strict=True):
        for other in (1, ranks):
            assert train(job_of(file, train=setting, **order, **way), other).bits() == one.bits()
    assert not threads()


def test_windows_are_another_order_with_the_chunks_of_the_file(file):
    by_file = train(job_of(file, **WINDOWS))
    assert by_file.state.facts["job"]["data"]["chunk_rows"] == CHUNK
    assert train(job_of(file, chunk_rows=CHUNK, **WINDOWS)).fingerprint == by_file.fingerprint
    others = [job_of(file, chunk_rows=6, **WINDOWS), job_of(file, **WINDOWS | {"window_chunks": 2}), job_of(file)]
    assert len({by_file.fingerprint, *(train(job).fingerprint for job in others)}) == 4


@pytest.mark.parametrize(("step", "ranks"), [(1, (3, 2)), (3, (2, 5)), (4, (1, 3)), (6, (5, 1))])
def test_stopped_in_an_epoch_and_resumed_on_other_ranks(file, step, ranks):
    job = job_of(file, keep="file", **WINDOWS)
    one = train(job)
    first = train(job, ranks[0], stop_at=step)
    assert not first.done
    assert not threads()
    assert train(job, ranks[1], start=first.state).bits() == one.bits()


few = settings(max_examples=40, deadline=None)


@few
@given(data=st.data())
def test_each_sample_is_once_in_an_epoch_on_any_ranks(data):
    """Over sizes, chunks, windows, batches, ranks and the step at which the epoch goes on."""
    n, ranks = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 4))
    chunk_rows, window_chunks = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 5))
    batch_size, shards = data.draw(st.integers(1, n)), data.draw(st.integers(ranks, 7))
    kept = np.flatnonzero([*data.draw(st.lists(st.booleans(), min_size=n - 1, max_size=n - 1)), True])
    batch_size = min(batch_size, len(kept))
    begin = data.draw(st.integers(0, -(-len(kept) // batch_size) - 1))
    prefetch = data.draw(st.integers(0, 3))
    shared = data.draw(st.booleans())
    values = np.arange(n, dtype=np.float64).reshape(n, 1)

    def body(comm):
        stored_rows = [Decoded(values), Decoded(values[:, 0].astype(np.int64))]
        windows = Windows(stored_rows, comm, chunk_rows, window_chunks, shared=shared)
        x, y = (SubsetRows(windows.rows[rows], kept) for rows in stored_rows)
        loader = ShardLoader(
            x, y, batch_size=batch_size, shards=shards, input_shape=(1,), dtype=np.float64,
            order=Order(1, True, "numpy", kept // chunk_rows, window_chunks), reads=Reads(prefetch, windows),
        )  # fmt: skip
        owned, seen = owned_leaves(shards, comm.size, comm.rank), []
        for epoch, first in ((0, begin), (1, 0)):
            loader.start_epoch(epoch, first, owned)
            for step in range(first, loader.steps_per_epoch):
                part_x, part_y, starts, _ = loader.shards(step, *owned)
                assert len(part_x) == starts[-1] - starts[0]
                np.testing.assert_array_equal(part_x[:, 0], part_y)
                seen.append((epoch, step, part_y.tolist()))
        loader.close()
        return seen, [rows.decoded for rows in stored_rows]

    everyone = [body(SerialCommunicator())] if ranks == 1 else run_threads(ranks, body)
    batches = {}
    for seen, _ in everyone:  # by rank: shards in order
        for epoch, step, rows in seen:
            batches.setdefault((epoch, step), []).extend(rows)
    order = [Order(1, True, "numpy", kept // chunk_rows, window_chunks).windows(epoch).samples for epoch in (0, 1)]
    for (epoch, step), rows in batches.items():
        expected = kept[order[epoch][step * batch_size : (step + 1) * batch_size]]
        assert rows == expected.tolist()
    assert len([row for (epoch, _), rows in batches.items() if epoch == 1 for row in rows]) == len(kept)
    counts = [sum(rank[array] for _, rank in everyone) for array in (0, 1)]
    each = len(np.unique(kept // chunk_rows)) * (1 if shared else ranks)
    assert all(each <= count <= 2 * each for count in counts)
    if begin == 0:
        assert counts == [2 * each, 2 * each]


class Decoded(ArrayRows):
    """Rows in memory that count how often a chunk is taken."""

    chunk_rows = 1

    def __init__(self, array):
        super().__init__(array)
        self.decoded = 0

    def take(self, indices, out):
        self.decoded += 1
        super().take(indices, out)


class Broken(Decoded):
    """Rows of which some can't be read."""

    def take(self, indices, out):
        if len(self.array) > 20 and self.decoded > 6:
            raise DataError("row 17 can't be read")
        super().take(indices, out)


def loader_of(rows, prefetch):
    return ShardLoader(
        rows, ArrayRows(np.arange(len(rows.array))), batch_size=5, shards=2, order=Order(0, False), input_shape=(1,),
        dtype=np.float64, reads=Reads(prefetch),
    )  # fmt: skip


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_what_a_read_raises_is_raised_where_its_batch_is_needed(prefetch):
    loader = loader_of(Broken(np.zeros((50, 1))), prefetch)
    loader.start_epoch(0, 0, (0, 2))
    for step in range(7):
        loader.shards(step, 0, 2)
    for _ in range(2):
        with pytest.raises(DataError, match="row 17 can't be read"):
            loader.shards(7, 0, 2)
    loader.close()
    assert not threads()


def test_a_wait_that_makes_progress_is_told_of():
    beats, go_on = [], threading.Event()

    def read(step, buffer, reading):
        while len(beats) < 2:
            reading.tick()
            reading.wait_until(go_on.is_set) if beats[1:] else reading.closed.wait(0.01)

    ahead = ReadAhead(read, range(1), [object()], beat=lambda: beats.append(1))
    ahead.take()
    assert len(beats) == 2
    ahead.close()


def test_closing_breaks_off_a_read_that_waits_and_one_that_goes_on():
    for busy in (
        lambda reading: reading.wait_until(lambda: False),
        lambda reading: [reading.tick() for _ in iter(int, 1)],
    ):
        ahead = ReadAhead(lambda step, buffer, reading, busy=busy: busy(reading), range(3), [object()])
        ahead.close()
        ahead.close()
        assert not threads()


def test_shards_are_loaded_one_by_one_and_again():
    x = ArrayRows(np.arange(23.0).reshape(-1, 1))
    ahead, direct = loader_of(x, 2), loader_of(x, 0)
    ahead.start_epoch(0, 1, (0, 2))
    direct.start_epoch(0)
    for step in range(1, 5):
        for first, stop in ((0, 1), (1, 2), (0, 2), (0, 1)):
            for one, other in zip(ahead.shards(step, first, stop), direct.shards(step, first, stop), strict=True):
                np.testing.assert_array_equal(one, other)
        assert ahead.shards(step, 0, 2)[0] is ahead.shards(step, 0, 2)[0]
    ahead.close()


def test_data_in_memory_are_not_read_ahead(file):
    for job, ahead in (
        (job_of(file, keep="memory"), False),
        (job_of(file), False),
        (job_of(file, keep="file"), True),
        (job_of(file, keep="file", prefetch=0), False),
    ):
        training = build_training(job, file.parent, SerialCommunicator())
        training.shards.start_epoch(0, 0, training.replica.owned)
        assert bool(threads()) is ahead
        training.shards.close()


def test_a_file_that_is_read_in_random_order_is_warned_of(file):
    def notes(**settings):
        return " ".join(build_training(job_of(file, **settings), file.parent, SerialCommunicator()).splits.notes)

    assert "in chunks of 4 rows, and are read in random order" in notes(keep="file")
    assert all("random order" not in notes(**way) for way in ({}, {"keep": "file"} | WINDOWS))
    assert "random order" not in notes(keep="file", train={"shuffle": False})


def test_settings_that_do_not_fit_are_refused(file, monkeypatch):
    with pytest.raises(JobError, match=r'data.chunk_rows = 5 is for data.order = "windows", but the order is "global"'):
        job_of(file, chunk_rows=5)
    monkeypatch.setattr("hpcnn.training.kept.free_memory", lambda: 100)
    monkeypatch.setattr("hpcnn.data.source.free_memory", lambda: 100)
    with pytest.raises(DataError, match=r'data.keep = "memory" takes 1708 bytes.*only 100.*Set it to "file"'):
        build_training(job_of(file, keep="memory"), file.parent, SerialCommunicator())
    with pytest.raises(DataError, match=r"data.window_chunks = 3 .chunks of 4 rows. takes \d+ bytes.*a smaller one"):
        build_training(job_of(file, keep="file", **WINDOWS), file.parent, SerialCommunicator())
    training = build_training(job_of(file), file.parent, SerialCommunicator())  # automatic: as far as there is room
    assert any(getattr(rows, "chunk_rows", 0) for rows in stored(training.splits.train.x))


def test_rows_are_made_of_others_without_a_change_to_the_first():
    base, other = ArrayRows(np.zeros((6, 2))), ArrayRows(np.ones((6, 2)))
    rows = ScaledRows(SubsetRows(base, np.array([4, 1])), np.float64(0), np.float64(2))
    made = replaced(rows, lambda one: other if one is base else one)
    assert [*stored(rows)] == [base]
    assert [*stored(made)] == [other]
    out = np.empty((2, 2))
    made.take(np.arange(2), out)
    np.testing.assert_array_equal(out, np.full((2, 2), 2.0))
    assert replaced(rows, lambda one: one) is rows
