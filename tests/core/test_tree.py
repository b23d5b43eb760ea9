import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.core import tree

few = settings(max_examples=60, deadline=None)
counts = st.integers(1, 70)
ranks = st.integers(1, 90)


def plain_sum(values, lo, hi):
    """The definition, as short as it can be written."""
    if hi - lo == 1:
        return values[lo]
    middle = (lo + hi) // 2
    return plain_sum(values, lo, middle) + plain_sum(values, middle, hi)


def all_subtrees(lo, hi):
    """Return every subtree over [lo, hi)."""
    if hi - lo == 1:
        return {(lo, hi)}
    middle = (lo + hi) // 2
    return {(lo, hi)} | all_subtrees(lo, middle) | all_subtrees(middle, hi)


def vectors(leaves, seed, length=5):
    """Return float32 vectors of very different sizes, so that any other order of additions shows."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(leaves, length)) * 10.0 ** rng.integers(-4, 5, (leaves, 1))).astype(np.float32)


def subtrees_of_all(leaves, size):
    return [tree.maximal_subtrees(leaves, tree.owned_leaves(leaves, size, rank)) for rank in range(size)]


@few
@given(leaves=st.integers(0, 70), size=ranks)
def test_owned_leaves_partition_all_leaves_in_order(leaves, size):
    owned = [tree.owned_leaves(leaves, size, rank) for rank in range(size)]
    assert [leaf for lo, hi in owned for leaf in range(lo, hi)] == list(range(leaves))
    lengths = [hi - lo for lo, hi in owned]
    assert max(lengths) - min(lengths) <= 1


@few
@given(leaves=counts, size=ranks)
def test_maximal_subtrees_of_all_ranks_cover_all_leaves_in_order(leaves, size):
    known = all_subtrees(0, leaves)
    for rank, subtrees in enumerate(subtrees_of_all(leaves, size)):
        lo, hi = tree.owned_leaves(leaves, size, rank)
        assert [leaf for subtree in subtrees for leaf in range(*subtree)] == list(range(lo, hi))
        assert known.issuperset(subtrees)


@few
@given(leaves=counts, size=ranks)
def test_maximal_subtrees_are_maximal_and_few(leaves, size):
    for rank, subtrees in enumerate(subtrees_of_all(leaves, size)):
        lo, hi = tree.owned_leaves(leaves, size, rank)
        inside = [(a, b) for a, b in all_subtrees(0, leaves) if lo <= a and b <= hi]
        assert set(subtrees) == {
            (a, b) for a, b in inside if not any(c <= a and b <= d and (a, b) != (c, d) for c, d in inside)
        }
        assert len(subtrees) <= 2 * math.ceil(math.log2(leaves)) + 1


@pytest.mark.parametrize(
    ("leaves", "owned", "subtrees"),
    [
        (1, (0, 1), [(0, 1)]),
        (8, (0, 8), [(0, 8)]),
        (8, (4, 8), [(4, 8)]),
        (8, (1, 7), [(1, 2), (2, 4), (4, 6), (6, 7)]),
        (5, (0, 2), [(0, 2)]),
        (5, (1, 4), [(1, 2), (2, 3), (3, 4)]),
        (8, (3, 3), []),
        (0, (0, 0), []),
    ],
)
def test_maximal_subtrees_by_hand(leaves, owned, subtrees):
    assert tree.maximal_subtrees(leaves, owned) == subtrees


@few
@given(leaves=counts, size=ranks, seed=st.integers(0, 99))
def test_additions_give_the_bits_of_the_plain_sum_for_any_number_of_ranks(leaves, size, seed):
    values = vectors(leaves, seed)
    subtrees = [subtree for own in subtrees_of_all(leaves, size) for subtree in own]
    slots = [plain_sum(values, *subtree).copy() for subtree in subtrees]
    order = tree.additions(leaves, subtrees)
    assert len(order) == len(subtrees) - 1
    for left, right in order:
        slots[left] += slots[right]
    assert slots[0].tobytes() == plain_sum(values, 0, leaves).tobytes()


@few
@given(leaves=counts, seed=st.integers(0, 99), data=st.data())
def test_leaf_steps_give_the_bits_of_the_plain_sum_with_as_few_slots_as_the_tree_is_deep(leaves, seed, data):
    subtree = data.draw(st.sampled_from(sorted(all_subtrees(0, leaves))))
    values, slots = vectors(leaves, seed), {}
    steps = tree.leaf_steps(subtree)
    assert [step.leaf for step in steps] == list(range(*subtree))
    for step in steps:
        slots[step.slot] = values[step.leaf].copy()
        for left, right in step.fold:
            slots[left] += slots.pop(right)
    assert list(slots) == [0]
    assert slots[0].tobytes() == plain_sum(values, *subtree).tobytes()
    assert max(step.slot for step in steps) == math.ceil(math.log2(subtree[1] - subtree[0]))


def test_a_sum_that_is_free_in_its_order_depends_on_the_number_of_ranks():
    """Proves that the tests above can fail: each rank adds from left to right, then the ranks are added."""
    values = vectors(24, seed=1)

    def free(size):
        parts = [values[slice(*tree.owned_leaves(24, size, rank))] for rank in range(size)]
        return sum(sum(part[1:], part[0]) for part in parts).tobytes()

    assert len({free(size) for size in (1, 2, 3, 4, 5, 7)}) > 3


@few
@given(leaves=counts, seed=st.integers(0, 99), data=st.data())
def test_fold_rows_gives_the_bits_of_the_plain_sum(leaves, seed, data):
    lo, hi = data.draw(st.sampled_from(sorted(all_subtrees(0, leaves))))
    values = vectors(leaves, seed)
    assert tree.fold_rows(np.array(values[lo:hi])).tobytes() == plain_sum(values, lo, hi).tobytes()


@few
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_total_is_the_plain_sum(values):
    assert tree.tree_total(values) == plain_sum(values, 0, len(values))


def test_total_of_nothing_is_zero():
    assert tree.tree_total([]) == 0.0


def test_total_of_numpy_numbers_is_a_float():
    assert type(tree.tree_total(list(np.ones(3, np.float32)))) is float
    assert type(tree.tree_total(np.ones(3))) is float
