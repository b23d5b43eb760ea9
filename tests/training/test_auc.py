"""The area under the ROC curve: exact, of all samples of an evaluation, on whichever ranks they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcnn.errors import JobError
from hpcnn.training.metrics import build_metric
from tests.require import require
from tests.small_jobs import build, make_job, train
from tests.training.metric_cases import metric_of, samples

KINDS = ["labels", "rows", "sequence labels", "sequence rows", "binary", "many binary", "sequence many binary"]


def measured(metric, outputs, targets, cuts=()):
    parts = zip(np.split(outputs, sorted(cuts)), np.split(targets, sorted(cuts)), strict=True)
    return metric.of_rows(np.concatenate([metric.rows(*part) for part in parts]))


def by_sklearn(kind, outputs, targets, labels):
    auc, k = require("sklearn.metrics").roc_auc_score, outputs.shape[-1]
    outputs = outputs.reshape(-1, k)
    truth = targets.reshape(-1, 1) == np.arange(k) if labels else targets.reshape(-1, k) > 0.5
    both = [c for c in range(k) if 0 < truth[:, c].sum() < len(truth)]
    return np.mean([auc(truth[:, c], outputs[:, c]) for c in both])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_scikit_learn(kind, dtype):
    """With ties, and with classes that never come."""
    outputs, targets, labels = samples(kind, dtype)
    value = measured(metric_of(kind, "auc", outputs, labels), outputs, targets)
    assert value == pytest.approx(by_sklearn(kind, outputs, targets, labels), rel=1e-12)


@pytest.mark.parametrize("labels", [True, False])
def test_of_two_classes_it_is_that_of_the_second(labels):
    rng = np.random.default_rng(1)
    p, true = rng.random(200).astype(np.float32), rng.integers(0, 2, 200)
    outputs, targets = np.stack([1 - p, p], axis=1), true if labels else np.eye(2, dtype=np.float32)[true]
    value = measured(build_metric("auc", outputs=2, labels=labels), outputs, targets)
    assert value == require("sklearn.metrics").roc_auc_score(true, p)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_pairs_are_counted(pairs, cuts):
    """By the definition; in any pieces and any order."""
    outputs = np.array([[score / 8] for score, _ in pairs], np.float32).reshape(-1, 1)
    targets = np.array([[true] for _, true in pairs], np.float32).reshape(-1, 1)
    true, false = ([score for score, truth in pairs if truth is kind] for kind in (True, False))
    twice = sum(2 * (a > b) + (a == b) for a in true for b in false)
    metric = build_metric("auc", outputs=1, labels=False)
    value = measured(metric, outputs, targets, [min(cut, len(pairs)) for cut in cuts])
    np.testing.assert_equal(value, twice / (2 * len(true) * len(false)) if true and false else np.nan)
    np.testing.assert_equal(measured(metric, outputs[::-1], targets[::-1]), value)


def test_an_output_that_is_not_a_number_is_seen():
    metric = build_metric("auc", outputs=1, labels=False)
    assert np.isnan(measured(metric, np.array([[0.1], [np.nan], [0.3]]), np.array([[0.0], [1.0], [1.0]])))


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_a_training_reports_it_of_validation_data_the_same_on_any_number_of_ranks(arithmetic):
    """On 5 ranks some have no piece of the 7 samples."""
    job = make_job(train={"metrics": ["auc", "accuracy"], "arithmetic": arithmetic})
    one = train(job)
    values = one.reports[-1].values
    assert "auc" not in values
    assert 0 < values["val_auc"] < 1
    for ranks in (2, 5):
        assert train(job, ranks).bits() == one.bits()
        assert train(job, ranks).reports[-1].values == values
    without = train(make_job(train={"metrics": ["accuracy"], "arithmetic": arithmetic}))
    assert without.fingerprint == one.fingerprint


def test_positions_of_the_ignored_class_do_not_count():
    loss = {"name": "sparse_categorical_crossentropy", "ignore_class": 2}
    values = train(make_job(loss=loss, train={"metrics": ["auc"]})).reports[-1].values
    assert 0 < values["val_auc"] < 1


def test_early_stopping_and_the_best_checkpoint_go_by_it():
    stopping = {"monitor": "val_auc", "patience": 1, "min_delta": 2.0}
    job = make_job(train={"metrics": ["auc"], "epochs": 9, "early_stopping": stopping}, run={"monitor": "val_auc"})
    outcome = train(job)
    assert len(outcome.reports) < 9
    assert any(best for _, best, _ in outcome.saves)


def test_without_validation_data_a_training_says_so(capsys):
    job = make_job(data={"validation_fraction": 0.0}, train={"metrics": ["auc"]})
    notes = build(job).splits.notes
    assert any(
        "train.metrics has auc, which is computed of validation data alone, and there are none" in n for n in notes
    )
    assert train(job).reports[-1].values.keys() == {"loss"}


def test_what_can_not_be_watched():
    watched = {"metrics": ["auc"], "early_stopping": {"monitor": "auc"}}
    with pytest.raises(
        JobError, match=r"auc is computed of validation data alone: monitor val_auc\. Known: loss, val_loss"
    ):
        make_job(train=watched)
    with pytest.raises(
        JobError, match=r"auc is computed of validation data alone, of which there are none\. Known: loss\."
    ):
        make_job(data={"validation_fraction": 0.0}, train=watched)
