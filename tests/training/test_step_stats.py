import numpy as np
import pytest

from hpcnn.training.metrics import build_metrics
from hpcnn.training.step_stats import COUNT, LOSS, PENALTY, SAVE, STOP, WEIGHT, StatsLayout


def layout(*names, outputs=3, labels=True):
    return StatsLayout(build_metrics(names, outputs=outputs, labels=labels, top_k=2))


def test_the_first_six_sums_have_fixed_places():
    assert [WEIGHT, LOSS, PENALTY, STOP, SAVE, COUNT] == [0, 1, 2, 3, 4, 5]
    assert layout().size == 6
    assert layout("accuracy", "confusion_matrix").size == 6 + 2 + 9
    assert layout("r2", "mse", labels=False).size == 6 + 10 + 2
    zeros = layout("accuracy").zeros()
    assert (zeros.dtype, zeros.tolist()) == (np.float64, [0.0] * 8)


def test_each_metric_adds_to_its_own_part_and_to_nothing_else():
    both, sums = layout("confusion_matrix", "accuracy"), np.zeros(17)
    outputs, targets = np.eye(3, dtype=np.float32), np.array([0, 1, 1])
    both.add_metrics(sums, outputs, targets)
    assert sums.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 2, 3]
    both.add_metrics(sums, outputs, targets)
    assert sums[-2:].tolist() == [4, 6]


def test_values_are_divided_here_and_named():
    one, sums = layout("accuracy"), np.array([4.0, 6.0, 2.0, 1.0, 1.0, 8.0, 3.0, 4.0])
    assert one.values(sums) == {"loss": 2.0, "accuracy": 0.75}
    assert one.values(sums, "val_") == {"val_loss": 2.0, "val_accuracy": 0.75}
    assert sums.tolist() == [4, 6, 2, 1, 1, 8, 3, 4]


def test_no_sample_has_no_loss():
    assert np.isnan(layout().values(np.zeros(6))["loss"])


@pytest.mark.parametrize("cut", range(5))
def test_sums_of_pieces_are_the_sums_of_the_whole(cut):
    every, rng = layout("accuracy", "f1", "top_k_accuracy"), np.random.default_rng(0)
    outputs, targets = rng.random((4, 3)), rng.integers(0, 3, 4)
    whole, parts = every.zeros(), [every.zeros(), every.zeros()]
    every.add_metrics(whole, outputs, targets)
    every.add_metrics(parts[0], outputs[:cut], targets[:cut])
    every.add_metrics(parts[1], outputs[cut:], targets[cut:])
    np.testing.assert_array_equal(parts[0] + parts[1], whole)


@pytest.mark.parametrize("ignored", [1, -1, 255])
def test_positions_that_do_not_count_are_in_no_metric(ignored):
    names = ("accuracy", "f1", "top_k_accuracy", "mean_iou", "perplexity", "confusion_matrix")
    metrics, rng = build_metrics(names, outputs=3, labels=True, top_k=2), np.random.default_rng(0)
    outputs, targets = rng.random((4, 5, 3)), rng.integers(0, 3, (4, 5))
    left_out = rng.random((4, 5)) < 0.5
    targets[targets == ignored] = 0
    targets[left_out] = ignored
    every, plain = StatsLayout(metrics, ignored), StatsLayout(metrics)
    sums, expected = every.zeros(), plain.zeros()
    every.add_metrics(sums, outputs, targets)
    plain.add_metrics(expected, outputs[~left_out], targets[~left_out])
    np.testing.assert_array_equal(sums, expected)
    every.add_metrics(sums, outputs[:1], np.full((1, 5), ignored))  # none counts
    np.testing.assert_array_equal(sums, expected)
