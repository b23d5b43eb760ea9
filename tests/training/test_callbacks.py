"""Early stopping and lower rates on a plateau, driven by made-up values."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from hpcnn.job.schema import EarlyStopping as EarlySection
from hpcnn.job.schema import ReduceOnPlateau as PlateauSection
from hpcnn.training.callbacks import Callback, Control, EarlyStopping, EpochReport, ReduceOnPlateau, improves
from tests.small_jobs import at_step

nan = float("nan")


class Weights:
    """A replica whose only weight is the number of the epoch."""

    def __init__(self):
        self.value = 0

    def weights(self):
        return {"w": np.array([self.value])}

    def load_weights(self, weights):
        self.value = int(weights["w"][0])


def report(epoch, value, rate=1.0, name="val_loss"):
    return EpochReport(epoch, 10 * epoch, rate, {name: float(value)}, 1.0, 1.0)


def run_early(section, values, *, through=lambda callback: callback):
    """Return the epoch after which the training ended, and the weights at the end."""
    callback, replica, control = EarlyStopping(section), Weights(), Control()
    for epoch, value in enumerate(values, 1):
        replica.value = epoch
        callback.on_epoch_end(report(epoch, value, name=section.monitor), replica, control)
        callback = through(callback)
        if control.reason:
            break
    callback.on_train_end(replica)
    return epoch, replica.value, control.reason


EARLY = [
    # settings, values, last epoch, weights at the end
    ({"patience": 2}, [5, 4, 3, 2, 1], 5, 5),
    ({"patience": 2}, [5, 4, 6, 6, 1], 4, 2),
    ({"patience": 3}, [5, 4, 6, 6, 1], 5, 5),
    ({"patience": 1}, [5, 5, 1], 2, 1),  # equal is no improvement
    ({"patience": 2, "min_delta": 1.0}, [5, 4.5, 4.2, 0], 3, 1),
    ({"patience": 2, "min_delta": 0.4}, [5, 4.5, 4.4, 4.3, 0], 4, 2),
    ({"patience": 2, "restore_best": False}, [5, 4, 6, 6, 1], 4, 4),
    ({"patience": 2, "restore_best": False}, [5, 4, 3], 3, 3),
    ({"patience": 9}, [5, 4, 6], 3, 2),  # the best weights are brought back at the end of the plan, too
    ({"patience": 2}, [nan, nan, 1], 2, 2),  # NaN never improves, and there is nothing to bring back
    ({"patience": 2}, [5, nan, nan, 1], 3, 1),
    ({"patience": 2}, [nan, 5, nan, 4], 4, 4),
    ({"patience": 2, "monitor": "val_accuracy"}, [0.1, 0.5, 0.4, 0.3, 1.0], 4, 2),
    ({"patience": 1, "monitor": "mae"}, [3, 2, 2.5, 0], 3, 2),
    ({"patience": 1, "monitor": "r2"}, [-1, 0.5, 0.4, 1], 3, 2),
]


def saved(callback):
    """Return a new callback that goes on from the old one's state, through JSON as in a checkpoint."""
    if isinstance(callback, EarlyStopping):
        fresh = EarlyStopping(callback._section)
    else:
        fresh = ReduceOnPlateau(callback.section)
    fresh.load(json.loads(json.dumps(callback.state())), {k: v.copy() for k, v in callback.arrays().items()})
    return fresh


@pytest.mark.parametrize("through", [lambda callback: callback, saved], ids=["whole", "resumed each epoch"])
@pytest.mark.parametrize(("settings", "values", "last", "weights"), EARLY)
def test_early_stopping(settings, values, last, weights, through):
    section = EarlySection(**settings)
    epoch, kept, why = run_early(section, values, through=through)
    assert (epoch, kept) == (last, weights)
    early = f"{section.monitor} has not improved for {section.patience} epochs"
    assert why == (early if last < len(values) else "")


def run_plateau(section, values, *, through=lambda callback: callback, base=1.0):
    """Return the rate of each epoch, and of the one that would come next."""
    callback, rates = ReduceOnPlateau(section), []
    for epoch, value in enumerate(values, 1):
        rates.append(base * callback.rate_factor())
        callback.on_epoch_end(report(epoch, value, rates[-1], section.monitor), Weights(), Control())
        callback = through(callback)
    return [*rates, base * callback.rate_factor()]


PLATEAU = [
    # settings, values, rates
    ({"patience": 2}, [5, 4, 3, 2], [1, 1, 1, 1, 1]),
    ({"patience": 1, "factor": 0.5}, [5, 5, 5, 1], [1, 1, 0.5, 0.25, 0.25]),
    ({"patience": 2, "factor": 0.5}, [5, 5, 5, 5, 5], [1, 1, 1, 0.5, 0.5, 0.25]),
    ({"patience": 2, "factor": 0.5}, [5, 5, 4, 4, 4], [1, 1, 1, 1, 1, 0.5]),
    ({"patience": 1}, [5, 4.99995, 4.9], [1, 1, 0.1, 0.1]),  # the default min_delta is 0.0001
    ({"patience": 1, "min_delta": 0.0}, [5, 4.99995, 4.9], [1, 1, 1, 1]),
    ({"patience": 1, "min_delta": 1.0}, [5, 4.5, 3], [1, 1, 0.1, 0.1]),
    ({"patience": 1, "min_learning_rate": 0.05}, [5, 5, 5, 5], [1, 1, 0.1, 0.05, 0.05]),
    ({"patience": 1, "min_learning_rate": 2.0}, [5, 5, 5], [1, 1, 1, 1]),  # never raised
    ({"patience": 1, "factor": 0.5}, [nan, nan, 1], [1, 0.5, 0.25, 0.25]),
    ({"patience": 1, "factor": 0.5, "monitor": "val_accuracy"}, [0.5, 0.6, 0.6], [1, 1, 1, 0.5]),
]


@pytest.mark.parametrize("through", [lambda callback: callback, saved], ids=["whole", "resumed each epoch"])
@pytest.mark.parametrize(("settings", "values", "rates"), PLATEAU)
def test_reduce_on_plateau(settings, values, rates, through):
    assert run_plateau(PlateauSection(**settings), values, through=through) == pytest.approx(rates)


def test_the_least_rate_is_one_of_the_whole_rate_with_its_schedule():
    callback = ReduceOnPlateau(PlateauSection(patience=1, factor=0.1, min_learning_rate=0.02))
    for value in (5, 5):
        callback.on_epoch_end(report(1, value, rate=0.1), Weights(), Control())
    assert callback.rate_factor() == pytest.approx(0.2)


@pytest.mark.parametrize(("name", "value", "best", "min_delta", "better"), [
    ("loss", 1.0, None, 0.0, True), ("loss", nan, None, 0.0, False), ("loss", nan, 1.0, 0.0, False),
    ("loss", 0.9, 1.0, 0.0, True), ("loss", 1.0, 1.0, 0.0, False), ("loss", 0.9, 1.0, 0.2, False),
    ("val_mse", 0.9, 1.0, 0.0, True), ("mae", 1.1, 1.0, 0.0, False),
    ("val_accuracy", 1.1, 1.0, 0.0, True), ("accuracy", 1.1, 1.0, 0.2, False), ("f1", 0.9, 1.0, 0.0, False),
])  # fmt: skip
def test_what_improves(name, value, best, min_delta, better):
    assert improves(name, value, best, min_delta) is better


def test_the_base_does_nothing_and_has_nothing_to_keep():
    callback, control = Callback(), Control()
    callback.on_train_begin(0, None)
    callback.on_step(at_step(1))
    callback.on_epoch_end(SimpleNamespace(), None, control)
    callback.on_train_end(None)
    callback.load({}, {})
    assert (callback.rate_factor(), callback.state(), callback.arrays(), control.reason) == (1.0, {}, {}, "")


def test_early_stopping_keeps_a_copy_of_the_best_weights():
    callback, replica = EarlyStopping(EarlySection(patience=5)), Weights()
    replica.value = 1
    callback.on_epoch_end(report(1, 1.0), replica, Control())
    replica.value = 2
    assert callback.arrays()["w"].tolist() == [1]


def test_a_misspelt_way_to_stop_is_an_error():
    with pytest.raises(AttributeError):
        Control().finish = "done"
