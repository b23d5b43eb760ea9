import numpy as np
import pytest

from hpcnn.data import rows as rows_module
from hpcnn.data.load import Samples, Splits, absent_classes, class_counts, prepare_targets
from hpcnn.data.rows import ArrayRows, OneHotRows
from hpcnn.errors import DataError, JobError
from tests.data.helpers import on_ranks, take

rng = np.random.default_rng(0)
LABELS = rng.integers(0, 4, 60)
LABELS[:4] = range(4)
VALUES = rng.uniform(size=(60, 6))
SPARSE = {"kind": "labels", "one_hot": False, "output_shape": (4,), "loss_name": "sparse_categorical_crossentropy"}
HOT = {"kind": "values", "one_hot": True, "output_shape": (4,), "loss_name": "categorical_crossentropy"}
MSE = {"kind": "values", "one_hot": False, "output_shape": (6,), "loss_name": "mse"}
BINARY = {**MSE, "output_shape": (1,), "loss_name": "binary_crossentropy"}
CATEGORICAL = {**HOT, "one_hot": False}


def splits(y, held=None):
    def samples(targets):
        return Samples(ArrayRows(np.zeros((len(targets), 2))), ArrayRows(np.asarray(targets)))

    return Splits(samples(y), None if held is None else samples(held), None, None)


def prepared(y, **options):
    return prepare_targets(splits(y), **options).train.y


IGNORING = {**SPARSE, "ignore_class": 255}
CTC = {"kind": "sequences", "one_hot": False, "output_shape": (6, 4), "loss_name": "ctc"}
SEQUENCES = np.array([[1, 3, 1, 0], [2, 2, 0, 0], [0, 0, 0, 0], [3, -1, -1, -1], [1, 1, 2, 2], [3, 2, 1, 3]] * 10)
MARKED = LABELS.copy()
MARKED[[3, 4, 59]] = 255
FITTING = {
    "labels that are ignored": (MARKED, IGNORING, MARKED),
    "only labels that are ignored": (np.full(60, 255), IGNORING, np.full(60, 255)),
    "labels of steps": (SEQUENCES, CTC, SEQUENCES),
    "labels of steps as floats": (SEQUENCES.astype(np.float32), CTC, SEQUENCES),
    "one label of steps": (SEQUENCES[:, 0], CTC, SEQUENCES[:, :1]),
    "counts": (3 * abs(VALUES), {**MSE, "loss_name": "poisson"}, 3 * abs(VALUES)),
    "labels": (LABELS, SPARSE, LABELS),
    "bytes": (LABELS.astype(np.uint8), SPARSE, LABELS),
    "whole floats": (LABELS.astype(np.float32), SPARSE, LABELS),
    "a column": (LABELS[:, None], SPARSE, LABELS),
    "booleans": (LABELS > 1, SPARSE, LABELS > 1),
    "sequences": (LABELS.reshape(20, 3), {**SPARSE, "output_shape": (3, 4)}, LABELS.reshape(20, 3)),
    "one-hot": (LABELS, HOT, np.eye(4)[LABELS]),
    "one-hot of floats": (LABELS.astype(np.float64), HOT, np.eye(4)[LABELS]),
    "one-hot for mse": (LABELS, {**HOT, "loss_name": "mse"}, np.eye(4)[LABELS]),
    "values": (VALUES, MSE, VALUES),
    "values of another shape": (VALUES, {**MSE, "output_shape": (2, 3)}, VALUES.reshape(60, 2, 3)),
    "a value": (VALUES[:, 0], {**MSE, "output_shape": (1,)}, VALUES[:, :1]),
    "binary": (LABELS % 2, BINARY, LABELS[:, None] % 2),
    "rows": (np.eye(4)[LABELS], CATEGORICAL, np.eye(4)[LABELS]),
    "negative values": (-9 * VALUES, MSE, -9 * VALUES),
}


@pytest.mark.parametrize("case", FITTING)
def test_targets_that_fit(case):
    y, options, expected = FITTING[case]
    rows = prepared(y, **options)
    assert rows.shape == expected.shape
    dtype = np.float32 if options["kind"] == "values" else np.int64
    np.testing.assert_array_equal(take(rows, dtype), expected.astype(dtype))
    if options["kind"] != "values":
        assert rows.dtype == np.int64


def test_inputs_stay_as_they_are():
    before = splits(LABELS, LABELS[:9])
    after = prepare_targets(before, **SPARSE)
    assert after.train.x is before.train.x
    assert after.validation.x is before.validation.x
    np.testing.assert_array_equal(take(after.validation.y), LABELS[:9])
    assert prepare_targets(splits(LABELS), **SPARSE).validation is None


HALF, LOW, HIGH = LABELS.astype(np.float64), LABELS.copy(), LABELS.copy()
HALF[[7, 20]] = 1.5
LOW[33] = -2
HIGH[[5, 50, 51]] = [4, 9, 4]
HIGH_STEPS, AFTER, LONG = SEQUENCES.copy(), SEQUENCES.copy(), SEQUENCES.copy()
HIGH_STEPS[7, 1] = 4
AFTER[33] = [1, 0, 2, 0]
LONG[8] = 2
MISFITS = {
    "high beside ignored": (
        np.where(MARKED == 255, 255, HIGH),
        IGNORING,
        "labels run from 0 to 9, .* allows 0 to 3, and 255 for what is ignored; 3 are outside, the first in row 5,",
    ),
    "high in steps": (HIGH_STEPS, CTC, "labels run up to 4, .* 4 outputs allows 1 to 3, .*; 1 are outside, .* row 7,"),
    "after padding": (AFTER, CTC, "labels come after padding, the first in row 33, .* Labels are 1 to 3; 0 or a neg"),
    "too long": (LONG, CTC, "1 rows have more labels than the 6 steps of .* can hold, the first is row 8, .* a blank"),
    "halves of steps": (SEQUENCES / 2, CTC, "labels are not whole numbers, the first in row 0"),
    "tables of steps": (np.ones((60, 2, 3)), CTC, r"have shape \(2, 3\) a sample, but the loss 'ctc' takes one row of"),
    "negative counts": (
        np.where(VALUES[9] == VALUES, -1, abs(VALUES)),
        {**MSE, "loss_name": "poisson"},
        "values are below 0, the first in row 9, .* but poisson needs values of at least 0",
    ),
    "signs for dice": (LABELS % 2 * 2 - 1, {**BINARY, "loss_name": "dice"}, "from -1 to 1, but dice needs probabil"),
    "not whole": (HALF, SPARSE, "training data: 2 labels are not whole numbers, the first in row 7, counted from 0"),
    "not whole, one-hot": (HALF, HOT, "2 labels are not whole numbers"),
    "high": (HIGH, SPARSE, "labels run from 0 to 9, but a model with 4 outputs allows 0 to 3; 3 are .* row 5,"),
    "low": (LOW, SPARSE, "labels run from -2 to 3, but .* 1 are outside, the first in row 33"),
    "high, one-hot": (HIGH, HOT, "labels run from 0 to 9"),
    "from 1": (LABELS + 1, SPARSE, "labels run from 1 to 4, .*Number the classes from 0"),
    "rows for labels": (
        np.eye(4)[LABELS],
        SPARSE,
        r"have shape \(4,\) a sample, but labels .* have shape \(\)\. If these are one-hot rows, .* 'categorical_cross",
    ),
    "many for labels": (VALUES, SPARSE, r"have shape \(6,\) a sample, but labels for .* \(4,\) have shape \(\)\.$"),
    "many for one-hot": (VALUES, HOT, r"have shape \(6,\) a sample, but labels"),
    "labels for categorical": (
        LABELS,
        CATEGORICAL,
        r"shape \(\) .* outputs have shape \(4,\).*data.one_hot = true, or choose .*'sparse_categorical_crossentropy'",
    ),
    "labels for mse": (LABELS, MSE, r"shape \(\) a sample, .* \(6,\)\. If these are labels .* data.one_hot = true\.$"),
    "other values": (VALUES, {**MSE, "output_shape": (5,)}, r"shape \(6,\) .* have shape \(5,\)\. Change the units"),
    "signs for binary": (LABELS % 2 * 2 - 1, BINARY, "run from -1 to 1, but binary_crossentropy needs probabilities"),
    "counts for rows": (3 * np.eye(4)[LABELS], CATEGORICAL, "run from 0 to 3, but categorical_crossentropy needs"),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", MISFITS)
def test_targets_that_do_not_fit(case, size, monkeypatch):
    """All ranks raise the same, though the bad value lies in the rows of one."""
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", 11)
    y, options, text = MISFITS[case]
    errors = on_ranks(size, lambda reduction: prepare_targets(splits(y), reduction=reduction, **options))
    for error in errors:
        with pytest.raises(DataError, match=text):
            raise error
        assert "targets of the training data" in str(error)


def test_validation_targets_are_checked_too():
    with pytest.raises(DataError, match=r"targets of the validation data: labels run from 0 to 9"):
        prepare_targets(splits(LABELS, HIGH), **SPARSE)


def test_one_hot_for_a_loss_of_labels_is_refused():
    with pytest.raises(JobError, match=r"one_hot = true makes one-hot rows, but the loss 'sparse_cat.* takes integer"):
        prepared(LABELS, **{**SPARSE, "one_hot": True})
    with pytest.raises(JobError, match=r"one_hot = true makes one-hot rows, but the loss 'ctc' takes integer labels"):
        prepared(SEQUENCES, **{**CTC, "one_hot": True})


COUNTED = {
    "labels": (ArrayRows(LABELS), 4),
    "mapped bytes": (ArrayRows(LABELS.astype(np.uint8), mapped=True), 4),
    "a class without samples": (ArrayRows(LABELS), 6),
    "one-hot": (OneHotRows(ArrayRows(LABELS), 4), 4),
    "rows": (ArrayRows(np.eye(4, dtype=np.float32)[LABELS]), 4),
    "binary": (ArrayRows((LABELS > 2)[:, None].astype(np.float32)), 2),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", COUNTED)
def test_class_counts(case, size, monkeypatch):
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", 24)
    expected = np.bincount(LABELS > 2 if case == "binary" else LABELS, minlength=COUNTED[case][1])
    make = {"values": take(COUNTED[case][0]), "classes": COUNTED[case][1]}
    for counts in on_ranks(size, lambda reduction: class_counts(ArrayRows(make["values"]), make["classes"], reduction)):
        assert counts.dtype == np.int64
        np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(class_counts(*COUNTED[case]), expected)


@pytest.mark.parametrize(("y", "classes"), [(VALUES, 4), (VALUES, 6), (VALUES[:, :1], 3)])
def test_classes_that_cannot_be_counted(y, classes):
    with pytest.raises(DataError, match=rf"rows of {classes} numbers that add up to 1; .* shape \({y.shape[1]},\)"):
        class_counts(ArrayRows(y), classes)


ABSENT = {
    "none": (ArrayRows(LABELS), 4, True, []),
    "labels": (ArrayRows(LABELS * 2), 9, True, [1, 3, 5, 7, 8]),
    "labels of a sequence": (ArrayRows(LABELS.reshape(15, 4)), 6, True, [4, 5]),
    "as many positions as classes": (ArrayRows(LABELS.reshape(10, 6)), 6, True, [4, 5]),
    "one-hot": (OneHotRows(ArrayRows(LABELS), 6), 6, False, [4, 5]),
    "rows": (ArrayRows(np.eye(5)[LABELS]), 5, False, [4]),
    "several labels": (ArrayRows(np.stack([LABELS > 9, LABELS > 0, LABELS > 2], axis=1)), 3, False, [0]),
    "two classes": (ArrayRows((LABELS > 2)[:, None].astype(np.float32)), 1, False, []),
    "no ones": (ArrayRows(np.zeros((9, 1))), 1, False, [1]),
    "no zeros": (ArrayRows(np.ones((9, 1), np.int64)), 1, False, [0]),
}


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("case", ABSENT)
def test_classes_without_samples(case, size, monkeypatch):
    monkeypatch.setattr(rows_module, "LEAF_ENTRIES", 24)
    y, classes, labels, expected = ABSENT[case]
    assert absent_classes(y, classes, labels=labels) == expected
    values = take(y)
    for found in on_ranks(
        size, lambda reduction: absent_classes(ArrayRows(values), classes, labels=labels, reduction=reduction)
    ):
        assert found == expected
