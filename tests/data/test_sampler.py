import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.core.tree import owned_leaves
from hpcnn.data import sampler
from hpcnn.errors import DataError

few = settings(max_examples=60, deadline=None)
sizes = st.integers(1, 200)


def test_order_is_a_function_of_seed_and_epoch():
    order = sampler.epoch_order(50, seed=3, epoch=2, shuffle=True)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, sampler.epoch_order(50, seed=3, epoch=2, shuffle=True))
    assert not np.array_equal(order, sampler.epoch_order(50, seed=3, epoch=3, shuffle=True))
    assert not np.array_equal(order, sampler.epoch_order(50, seed=4, epoch=2, shuffle=True))
    np.testing.assert_array_equal(np.sort(order), np.arange(50))


def test_order_of_today_is_the_order_of_tomorrow():
    """A resumed job must find the same order: this pins the stream."""
    assert sampler.epoch_order(8, seed=0, epoch=0, shuffle=True).tolist() == [4, 3, 0, 2, 6, 1, 5, 7]
    assert sampler.validation_split(10, 0.3, seed=0)[1].tolist() == [2, 8, 9]


def test_order_without_shuffle_is_that_of_the_file():
    for epoch in range(3):
        np.testing.assert_array_equal(sampler.epoch_order(7, 1, epoch, shuffle=False), np.arange(7))


def test_orders_are_uniform():
    firsts = [sampler.epoch_order(4, seed=0, epoch=epoch, shuffle=True)[0] for epoch in range(4000)]
    assert np.bincount(firsts, minlength=4) == pytest.approx([1000] * 4, abs=150)


@few
@given(n=st.integers(2, 300), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**40))
def test_split_is_disjoint_sorted_and_complete(n, fraction, seed):
    try:
        train, held_out = sampler.validation_split(n, fraction, seed)
    except DataError:
        assert not 0.5 <= n * fraction <= n - 0.5
        return
    assert len(train)
    assert len(held_out)
    assert abs(len(held_out) - n * fraction) <= 0.5
    for side in (train, held_out):
        assert side.dtype == np.int64
        np.testing.assert_array_equal(side, np.sort(side))
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(n))


def test_split_follows_the_seed():
    first, again, other = (sampler.validation_split(1000, 0.2, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_split_without_fraction_keeps_all():
    train, held_out = sampler.validation_split(5, 0.0, 0)
    assert train.tolist() == [0, 1, 2, 3, 4]
    assert held_out.tolist() == []


@pytest.mark.parametrize(
    ("n", "fraction", "text"),
    [
        (20, 0.01, "0.01 of 20 samples leaves 0 for validation and 20 for training"),
        (3, 0.99, "0.99 of 3 samples leaves 3 for validation and 0 for training"),
        (1, 0.5, "leaves 1 for validation and 0 for training"),
    ],
)
def test_split_with_an_empty_side_is_refused(n, fraction, text):
    with pytest.raises(DataError, match=text):
        sampler.validation_split(n, fraction, 0)


def test_batch_may_not_exceed_the_data():
    assert sampler.check_batch(10, 10) == 10
    assert sampler.check_batch("full", 10) == 10
    with pytest.raises(DataError, match=r"batch_size = 11 is larger than the training data: 10 samples.*at most 10"):
        sampler.check_batch(11, 10)


@few
@given(n=sizes, batch=sizes)
def test_batches_tile_the_epoch(n, batch):
    bounds = [sampler.batch_bounds(n, batch, step) for step in range(sampler.steps_per_epoch(n, batch))]
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(n))
    assert all(stop - start == batch for start, stop in bounds[:-1])
    with pytest.raises(AssertionError, match="outside"):
        sampler.batch_bounds(n, batch, len(bounds))


@few
@given(n=st.integers(0, 200), pieces=sizes)
def test_pieces_are_contiguous_and_even(n, pieces):
    bounds = [owned_leaves(n, pieces, i) for i in range(pieces)]
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(n))
    lengths = [stop - start for start, stop in bounds]
    assert max(lengths) - min(lengths) <= 1


@few
@given(n=sizes, batch=sizes, shards=st.integers(1, 20), data=st.data())
def test_each_sample_comes_exactly_once_in_one_order_for_any_number_of_ranks(n, batch, shards, data):
    ranks = data.draw(st.integers(1, shards))
    order = sampler.epoch_order(n, seed=5, epoch=1, shuffle=True)
    seen = []
    for step in range(sampler.steps_per_epoch(n, batch)):
        for rank in range(ranks):
            for shard in range(*owned_leaves(shards, ranks, rank)):
                begin, end = sampler.batch_bounds(n, batch, step)
                first, stop = sampler.shard_starts(end - begin, shards, shard, shard + 1)
                seen.extend(order[begin + first : begin + stop].tolist())
    assert seen == order.tolist()


def test_a_small_last_batch_leaves_shards_empty():
    assert sampler.shard_starts(1, 4, 0, 4) == (0, 0, 0, 0, 1)


@few
@given(
    kept=st.lists(st.booleans(), min_size=1, max_size=300).filter(any),
    chunk_rows=st.integers(1, 40),
    window_chunks=st.integers(1, 9),
    batch_size=st.integers(1, 80),
    seed=st.integers(0, 2**40),
    arithmetic=st.sampled_from(["numpy", "native"]),
)
def test_windows_have_each_sample_once_and_near_its_neighbours(
    kept, chunk_rows, window_chunks, batch_size, seed, arithmetic
):
    chunk_of = np.flatnonzero(kept) // chunk_rows
    n = len(chunk_of)
    order = sampler.window_order(chunk_of, window_chunks, seed, 3, arithmetic=arithmetic)
    assert order.samples.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order.samples), np.arange(n))
    np.testing.assert_array_equal(np.sort(order.chunks), np.unique(chunk_of))
    window_of_chunk = {chunk: place // window_chunks for place, chunk in enumerate(order.chunks.tolist())}
    window_of = np.array([window_of_chunk[chunk] for chunk in chunk_of[order.samples].tolist()])
    assert (np.diff(window_of) >= 0).all()
    np.testing.assert_array_equal(np.searchsorted(window_of, range(len(order.ends)), "right"), order.ends)
    smallest = np.diff(order.ends, prepend=0).min()
    for start in range(0, n, batch_size):
        assert len(set(window_of[start : start + batch_size])) <= -(-batch_size // smallest) + 1


def test_windows_of_all_chunks_and_of_one_row():
    """With one window each order is as likely as any; windows of one chunk of one row are shuffled chunks."""
    one = [sampler.window_order(np.arange(4) // 2, 2, 0, epoch).samples[0] for epoch in range(4000)]
    assert np.bincount(one, minlength=4) == pytest.approx([1000] * 4, abs=150)
    rows = sampler.window_order(np.arange(9), 1, 0, 0)
    np.testing.assert_array_equal(rows.samples, rows.chunks)


@pytest.mark.parametrize(
    ("arithmetic", "expected"), [("numpy", [3, 0, 2, 1, 4, 6, 5, 7]), ("native", [0, 1, 4, 5, 3, 6, 2, 7])]
)
def test_windows_of_today_are_those_of_tomorrow(arithmetic, expected):
    order = sampler.window_order(np.arange(8) // 2, 2, seed=0, epoch=0, arithmetic=arithmetic)
    assert order.samples.tolist() == expected
