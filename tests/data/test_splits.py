"""Which samples are held out: shares of classes, whole groups, the last ones, and folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.data.load import load
from hpcnn.data.readers.memory import array_source
from hpcnn.data.splits import fold_of_groups, shares, split_of
from hpcnn.errors import DataError, JobError
from hpcnn.job.data import Csv, Memory, Npy, Npz
from hpcnn.job.data_checks import check_data, has_validation
from tests.require import require

KINDS = ["random", "stratified", "group", "last"]
CLASSES = np.repeat([0, 1, 2], [60, 31, 9])
GROUPS = np.repeat(np.arange(20), np.arange(20) % 5 + 3)


def split(y, seed=3, arithmetic="native", groups=None, **keys):
    """Return the samples to train on, and those that are held out."""
    source = array_source((np.zeros((len(y), 2)), y), groups=groups)
    return split_of(source, Memory(**keys), seed, arithmetic)


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.333, 0.9])
def test_each_class_has_its_share(fraction, arithmetic):
    y = np.random.default_rng(0).permutation(CLASSES)
    train, held = split(y, arithmetic=arithmetic, validation_fraction=fraction, validation_split="stratified")
    assert sorted([*train, *held]) == list(range(100))
    counts = np.bincount(y[held], minlength=3)
    assert counts.sum() == round(100 * fraction)
    assert (abs(counts - fraction * np.bincount(y)) < 1).all()
    again = split(y, arithmetic=arithmetic, validation_fraction=fraction, validation_split="stratified")
    other = split(y, 4, arithmetic, validation_fraction=fraction, validation_split="stratified")
    np.testing.assert_array_equal(held, again[1])
    assert held.tolist() != other[1].tolist()


def test_classes_may_be_words_rows_or_any_whole_numbers():
    y = np.random.default_rng(0).permutation(CLASSES)
    keys = {"validation_fraction": 0.2, "validation_split": "stratified"}
    first = split(y, **keys)[1]
    for other in (np.array(["a", "b", "c"])[y].tolist(), np.eye(3)[y], y[:, None] * 7.0 - 4):
        np.testing.assert_array_equal(split(other, **keys)[1], first)
    for wrong in (np.random.default_rng(0).random(100), np.ones((100, 3)), np.stack([y, y], axis=1)):
        with pytest.raises(DataError, match='"stratified" needs one class a sample, but the targets'):
            split(wrong, **keys)


def test_there_must_be_as_many_classes_as_samples():
    source = array_source((np.zeros((9, 2)), CLASSES))
    with pytest.raises(DataError, match=r"9 inputs .*, but 100 targets"):
        split_of(source, Memory(fold="1/3", validation_split="stratified"), 0, "native")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0.05, 0.95))
def test_shares_are_those_of_the_largest_remainder(counts, fraction):
    counts = np.array(counts)
    total = int(counts.sum() * fraction + 0.5)
    if not 0 < total < counts.sum():
        return
    chosen = shares(counts, fraction)
    assert (chosen < counts).all()  # one of each class is left
    assert (abs(chosen - counts * fraction) <= 1).all()
    assert chosen.sum() == total or (chosen[counts * fraction > chosen] == counts[counts * fraction > chosen] - 1).all()


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.8])
def test_groups_stay_together(fraction):
    order = np.random.default_rng(1).permutation(len(GROUPS))
    words = [f"patient {group}" for group in GROUPS[order]]
    for groups in (GROUPS[order], words):
        train, held = split(
            np.zeros(len(GROUPS)), groups=groups, validation_fraction=fraction, validation_split="group"
        )
        assert sorted([*train, *held]) == list(range(len(GROUPS)))
        groups = np.array(groups)
        assert not set(groups[train]) & set(groups[held])
        assert abs(len(held) - fraction * len(GROUPS)) <= 2  # of groups of 3 to 7


def test_the_last_samples_and_a_gap():
    y = np.zeros(50)
    train, held = split(y, validation_fraction=0.2, validation_split="last", validation_gap=3)
    assert (train.tolist(), held.tolist()) == (list(range(37)), list(range(40, 50)))
    train, held = split(y, fold="2/5", validation_fraction=0.1, validation_split="last", validation_gap=3)
    assert (train.tolist(), held.tolist()) == ([*range(7), *range(23, 50)], list(range(10, 20)))
    with pytest.raises(DataError, match=r"validation_gap = 40 leaves no sample for training, of 50 of which 10"):
        split(y, validation_fraction=0.2, validation_split="last", validation_gap=40)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(2, 7), st.lists(st.integers(0, 9), min_size=10, max_size=60))
def test_each_sample_is_in_one_fold(kind, folds, values):
    groups = np.array(values)
    there = len(set(values)) if kind == "group" else len(values)
    held = []
    for number in range(1, folds + 1):
        keys = {"fold": f"{number}/{folds}", "validation_split": kind}
        if folds > there or there < 2:
            with pytest.raises(DataError, match=r"folds, but there are|belong to one group"):
                split(groups, groups=groups, **keys)
            return
        train, own = split(groups, groups=groups, **keys)
        assert sorted([*train, *own]) == list(range(len(values)))
        held.append(own)
    assert sorted(np.concatenate(held)) == list(range(len(values)))
    sizes = [len(own) for own in held]
    if kind != "group":
        assert max(sizes) - min(sizes) <= 1
    if kind == "stratified":
        counts = np.array([np.bincount(groups[own], minlength=10) for own in held])
        assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()


def test_folds_of_groups_are_filled_evenly():
    sizes = np.array([9, 1, 1, 8, 7, 2, 2, 5])
    fold = fold_of_groups(sizes, np.arange(8), 3)
    assert np.bincount(fold, sizes).tolist() == [12, 11, 12]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, r"needs to know which samples belong together: .* or give hpcnn.fit groups="),
        (np.zeros(10), "all samples belong to one group"),
        (np.arange(9), r"the groups have shape \(9,\), but 10 samples need \(10,\)"),
        (np.where(np.arange(10) == 4, np.nan, 1), "no group for 1 sample, the first in row 4"),
    ],
)
def test_groups_that_are_none_are_refused(groups, message):
    with pytest.raises((DataError, JobError), match=message):
        split(np.zeros(10), groups=groups, validation_fraction=0.2, validation_split="group")


WRONG = {
    'validation_split = "last" says which samples are held out, but none are': Memory(validation_split="last"),
    'validation_gap = 2 is for data.validation_split = "last"': Memory(validation_fraction=0.1, validation_gap=2),
    'fold = "6/5": give a fold and the number of folds, at least 2': Memory(fold="6/5"),
    'fold = "1/1": give': Memory(fold="1/1"),
    'fold = "one": give': Memory(fold="one"),
    'fold = "1/5" and data.validation_path both give': Npz(path="a.npz", fold="1/5", validation_path="b.npz"),
    "validation_x needs data.validation_y": Npz(path="a.npz", validation_x="x_test"),
    "validation_path and data.validation_x both give":
        Npz(path="a.npz", validation_path="b.npz", validation_x="v", validation_y="w"),
    "validation_column needs data.validation_values": Csv(path="a.csv", targets=["y"], validation_column="split"),
    "validation_values needs data.validation_column": Csv(path="a.csv", targets=["y"], validation_values=["test"]),
    'validation_split = "group" needs to know which samples': Npz(path="a", validation_split="group", fold="1/2"),
    'data.group = "g" says which samples belong together, but data.validation_split = "random" takes them apart':
        Npz(path="a", group="g", validation_fraction=0.1),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_settings_that_contradict_each_other(message):
    with pytest.raises(JobError, match=message):
        check_data(WRONG[message])


X, Y, W = np.arange(20.0).reshape(10, 2), np.arange(10) % 2, np.arange(10.0)


def loaded(data, folder):
    check_data(data)
    assert has_validation(data)
    return load(data, seed=0, dtype=np.float64, base=folder)


def taken(rows):
    values = np.empty(rows.shape)
    rows.take(np.arange(len(values)), values)
    return values


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_arrays_for_validation_of_the_same_file(tmp_path, kind):
    arrays = {"x": X, "y": Y, "w": W, "x_test": X[:4] + 1, "y_test": Y[:4], "w_test": W[:4] + 2}
    names = {"weights": "w", "validation_x": "x_test", "validation_y": "y_test", "validation_weights": "w_test"}
    if kind == "npz":
        np.savez(tmp_path / "data.npz", **arrays)
        section = Npz(path="data.npz", **names)
    else:
        with require("h5py").File(tmp_path / "data.h5", "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, chunks=(2, *array.shape[1:]))
        from hpcnn.job.data import Hdf5

        section = Hdf5(path="data.h5", **names)
    splits = loaded(section, tmp_path)
    for samples, of in ((splits.train, ("x", "y", "w")), (splits.validation, ("x_test", "y_test", "w_test"))):
        for rows, name in zip((samples.x, samples.y, samples.weights), of, strict=True):
            np.testing.assert_array_equal(taken(rows), arrays[name])


def test_weights_and_groups_of_npy_files(tmp_path):
    for name, array in {"x": X, "y": Y, "w": W, "g": np.repeat([0, 1, 2], [4, 4, 2])}.items():
        np.save(tmp_path / f"{name}.npy", array)
    section = Npy(x_path="x.npy", y_path="y.npy", weights_path="w.npy", group_path="g.npy",
                  validation_split="group", fold="3/3")  # fmt: skip
    splits = loaded(section, tmp_path)
    np.testing.assert_array_equal(taken(splits.validation.weights), [8, 9])
    np.testing.assert_array_equal(taken(splits.train.weights), W[:8])


TABLE = "a,b,y,w,part\n" + "".join(
    f"{row},{-row},{row % 2},{row},{'test' if row > 6 else 'train'}\n" for row in range(9)
)


def test_a_column_says_which_rows_are_held_out(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    keys = {"path": "t.csv", "targets": ["y"], "weights": "w", "validation_column": "part"}
    splits = loaded(Csv(**keys, validation_values=["test"]), tmp_path)
    assert splits.train.feature_names == ("a", "b")
    np.testing.assert_array_equal(taken(splits.validation.x)[:, 0], [7, 8])
    np.testing.assert_array_equal(taken(splits.validation.weights), [7, 8])
    with pytest.raises(DataError, match=r"validation_values has 'tset', but column 'part' of .* holds 'test', 'train'"):
        loaded(Csv(**keys, validation_values=["tset"]), tmp_path)
    (tmp_path / "t.csv").write_text(TABLE.replace("3,-3,1,3,train", "3,-3,1,3,"))
    with pytest.raises(DataError, match=r"'part' \(data.validation_column\) has no value in 1 rows, .* row 3"):
        loaded(Csv(**keys, validation_values=["test"]), tmp_path)
    (tmp_path / "t.csv").write_text(TABLE.replace("test", "1").replace("train", "0"))
    held = loaded(Csv(**keys, validation_values=[1]), tmp_path).validation
    np.testing.assert_array_equal(taken(held.x)[:, 0], [7, 8])
    (tmp_path / "t.csv").write_text(TABLE.replace(",w,part", ",part,w"))
    with pytest.raises(DataError, match="weights of the training data are words"):
        loaded(Csv(**keys, validation_values=[8]), tmp_path)
