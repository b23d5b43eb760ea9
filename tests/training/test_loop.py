"""The loop: who is called when, what is reported, what is saved."""

import pytest

from hpcnn.errors import DriftError, JobError
from hpcnn.training.callbacks import Callback
from tests.small_jobs import build, make_job, train


class Recorder(Callback):
    """Writes down each call; `events` is shared by several."""

    def __init__(self, name, events, *, factor=1.0, finish_after=0):
        self.name, self.events, self.factor, self.finish_after = name, events, factor, finish_after

    def on_train_begin(self, epoch, replica):
        self.events.append(f"{self.name} begin {epoch}")

    def on_step(self, report):
        self.events.append(f"{self.name} step {report.step_in_epoch}")

    def on_epoch_end(self, report, replica, control):
        self.events.append(f"{self.name} epoch {report.epoch}")
        if self.finish_after == report.epoch:
            control.stop(f"{self.name} says so")

    def rate_factor(self):
        return self.factor

    def on_train_end(self, replica):
        self.events.append(f"{self.name} end")


def test_callbacks_are_called_in_order():
    events = []
    outcome = train(make_job(train={"epochs": 2, "batch_size": 15}),
                    callbacks=[Recorder("a", events), Recorder("b", events)])  # fmt: skip
    assert outcome.done
    assert events == [
        "a begin 0", "b begin 0",
        "a step 1", "b step 1", "a step 2", "b step 2", "a epoch 1", "b epoch 1",
        "a step 1", "b step 1", "a step 2", "b step 2", "a epoch 2", "b epoch 2",
        "a end", "b end",
    ]  # fmt: skip


def test_a_stop_ends_without_the_end_and_a_resume_begins_where_it_was():
    events, job = [], make_job(train={"epochs": 2, "batch_size": 15})
    stopped = train(job, stop_at=3, callbacks=[Recorder("a", events)])
    assert not stopped.done
    assert events[-2:] == ["a epoch 1", "a step 1"]
    events.clear()
    train(job, start=stopped.state, callbacks=[Recorder("a", events)])
    assert events == ["a begin 1", "a step 2", "a epoch 2", "a end"]


def test_a_callback_may_finish_the_training():
    events = []
    outcome = train(make_job(train={"epochs": 9}), callbacks=[Recorder("a", events, finish_after=2)])
    assert outcome.done
    assert events[-2:] == ["a epoch 2", "a end"]
    assert outcome.saves[-1][::2] == (6, True)
    assert outcome.state.facts["progress"]["finish"] == "a says so"


def decided_on_one_rank(**decisions):
    """Train on three ranks, one of which has a callback that finishes the training, or lowers the rate."""
    alone = iter([Recorder("alone", [], **decisions)])

    def prepare(training):
        training.callbacks["of this rank"] = next(alone, Recorder("others", []))

    return train(make_job(train={"epochs": 9}), 3, prepare=prepare)


def test_a_callback_on_any_one_rank_finishes_the_training_of_all():
    outcome = decided_on_one_rank(finish_after=2)
    assert outcome.done
    assert len(outcome.reports) == 2
    assert outcome.state.facts["progress"]["finish"] == "alone says so"


def test_ranks_whose_callbacks_want_different_rates_are_told_before_the_first_step():
    with pytest.raises(DriftError, match=r"step 1 .*: the callbacks of rank \d multiply .* by .*, those of rank 0 by"):
        decided_on_one_rank(factor=0.5)


def test_rate_factors_of_all_callbacks_multiply_the_schedule():
    job = make_job(train={"epochs": 2}, schedule={"name": "step", "every": 1, "factor": 0.5})
    factors = [Recorder("a", [], factor=0.5), Recorder("b", [], factor=0.1)]
    rates = [report.learning_rate for report in train(job, callbacks=factors).reports]
    assert rates == pytest.approx([0.05 * 0.05, 0.05 * 0.05 * 0.5])
    plain = [report.learning_rate for report in train(job).reports]
    assert plain == pytest.approx([0.05, 0.025])


def test_the_factor_reaches_the_update_not_only_the_report():
    job = make_job()
    at_start = build(job).replica.model.fingerprint()
    assert train(job, callbacks=[Recorder("a", [], factor=0.0)]).fingerprint == at_start
    assert train(job).fingerprint != at_start


def test_reports_hold_values_over_the_whole_epoch():
    reports = train(make_job(train={"metrics": ["accuracy", "confusion_matrix"]}), 3).reports
    assert [(report.epoch, report.step) for report in reports] == [(1, 3), (2, 6)]
    for report in reports:
        assert list(report.values) == [
            "loss", "accuracy", "confusion_matrix", "val_loss", "val_accuracy", "val_confusion_matrix",
        ]  # fmt: skip
        assert report.values["confusion_matrix"].sum() == 30
        assert report.values["val_confusion_matrix"].sum() == 7
        assert report.values["accuracy"] == report.values["confusion_matrix"].trace() / 30
        assert report.seconds > 0
        assert report.samples_per_s > 0


def test_without_validation_there_are_no_such_values():
    reports = train(make_job(data={"validation_fraction": 0.0})).reports
    assert list(reports[0].values) == ["loss", "accuracy"]


def test_the_mean_loss_is_over_samples_not_over_batches():
    """With a rate of nearly 0, in batches of 13, 13 and 4, or in one."""
    layers = [{"type": "dense", "units": 3, "activation": "softmax", "kernel_l2": 0.1}]
    still = {"name": "sgd", "learning_rate": 1e-30}
    cut, whole = (
        train(make_job(model={"layers": layers}, optimizer=still, train={"batch_size": size, "dtype": "float64"}))
        for size in (13, "full")
    )
    assert cut.reports[0].values["loss"] == pytest.approx(whole.reports[0].values["loss"], rel=1e-12)


MONITORS = [
    # what is watched, whether lower is better
    ("", "val_loss", True), ("val_accuracy", "val_accuracy", False), ("loss", "loss", True),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "name", "lower"), MONITORS)
def test_the_best_epoch_is_marked(setting, name, lower):
    outcome = train(make_job(train={"epochs": 6}, run={"monitor": setting}))
    values, best = [report.values[name] for report in outcome.reports], None
    expected = []
    for value in values:
        better = best is None or (value < best if lower else value > best)
        best = value if better else best
        expected.append(better)
    assert [marked for _, marked, _ in outcome.saves] == expected
    assert outcome.state.facts["progress"]["best"] == best


@pytest.mark.parametrize("every", [1, 2, 3])
def test_checkpoints_come_every_so_many_epochs_and_at_the_best_and_the_end(every):
    outcome = train(make_job(train={"epochs": 7}, run={"checkpoint_every_epochs": every, "monitor": "val_accuracy"}))
    epochs = {step // 3 for step, _, _ in outcome.saves}
    best = {step // 3 for step, marked, _ in outcome.saves if marked}
    assert epochs == best | {epoch for epoch in range(1, 8) if epoch % every == 0} | {7}
    assert [last for _, _, last in outcome.saves] == [False] * (len(epochs) - 1) + [True]


def test_a_stop_asked_for_on_any_one_rank_stops_all_at_the_same_step():
    for asked in range(3):
        outcome = train(make_job(), 3, stop_at=2, asked=asked)
        assert (outcome.done, outcome.saves) == (False, [(2, False, True)])


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -0.5])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_factor_that_is_no_rate_s_is_refused(factor, ranks):
    message = r"step 1 \(epoch 1\): the callbacks of rank 0 multiply the learning rate by .*Return a number >= 0"
    with pytest.raises(JobError, match=message):
        train(make_job(), ranks, callbacks=[Recorder("a", [], factor=factor)])


REGRESSION = {
    "data": {"source": "synthetic", "kind": "linear", "samples": 20, "features": 2, "noise": 0.0},
    "model": {"layers": [{"type": "dense", "units": 1}]},
    "loss": {"name": "mse"},
}


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_value_that_is_watched_and_never_defined_is_said_once(ranks, capsys, monkeypatch):
    monkeypatch.setattr("hpcnn.training.metrics.R2.value", lambda self, sums: float("nan"))
    watch = {"monitor": "r2", "patience": 2}
    steering = {"early_stopping": watch, "reduce_on_plateau": {"monitor": "loss"}}
    job = make_job(**REGRESSION, train={"epochs": 5, "metrics": ["r2"], **steering}, run={"monitor": "r2"})
    outcome = train(job, ranks)
    assert len(outcome.reports) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if "not defined" in line]
    assert [line.partition(", as")[0] for line in lines] == [
        'warning: train.early_stopping.monitor = "r2", but r2 is not defined in epoch 1',
        'warning: run.monitor = "r2", but r2 is not defined in epoch 1',
    ]
