"""Callbacks of a user, and what checkpoints keep of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.errors import CheckpointError, JobError
from tests.api.fitting import fit


class Counting(hpcnn.Callback):
    """Counts epochs, over resumes too, and halves the rate."""

    def __init__(self, most: int = 99) -> None:
        self.epochs, self.most = 0, most

    def on_epoch_end(self, report: hpcnn.EpochReport, replica: Any, control: hpcnn.Control) -> None:
        self.epochs += 1
        if self.epochs == self.most:
            control.stop("enough")

    def rate_factor(self) -> float:
        return 0.5**self.epochs

    def state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load(self, state: Any, arrays: Any) -> None:
        self.epochs = state["epochs"]


def test_callbacks_of_a_user(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    counting = Counting(most=2)
    ended = fit(tmp_path, callbacks=[counting, Counting()])
    assert counting.epochs == len(ended.history) == 2
    assert ended.complete
    assert ended.history[1]["learning_rate"] == pytest.approx(ended.history[0]["learning_rate"] / 4)


def test_what_callbacks_are_told_of_each_step(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    class Watching(hpcnn.Callback):
        def __init__(self) -> None:
            self.reports: list[hpcnn.StepReport] = []

        def on_step(self, report: hpcnn.StepReport) -> None:
            self.reports.append(report)
            weights.append(report.replica.weights())

    weights: list[Any] = []
    watching = Watching()
    made = fit(tmp_path, callbacks=[watching], overrides={"schedule": {"name": "exponential", "rate": 0.5}})
    reports = watching.reports
    assert [(r.epoch, r.step_in_epoch) for r in reports] == [(e, s) for e in (1, 2, 3) for s in (1, 2, 3, 4)]
    assert [r.step for r in reports] == list(range(1, 13))
    for line in made.history:
        steps = [r for r in reports if r.epoch == line["epoch"]]  # batches of 16, 16, 16 and 12
        for name in ("loss", "accuracy"):
            assert np.average([r.values[name] for r in steps], weights=[16, 16, 16, 12]) == pytest.approx(line[name])
        assert steps[-1].learning_rate == line["learning_rate"]
    assert not np.array_equal(weights[0]["dense_1/kernel"], weights[-1]["dense_1/kernel"])


@pytest.mark.parametrize("reason", ["", None, 3])
def test_a_stop_needs_a_reason(reason: Any) -> None:
    control = hpcnn.Control()
    with pytest.raises(JobError, match=r"control.stop\(.*\): say why the training ends"):
        control.stop(reason)
    control.stop("first")
    control.stop("second")
    assert control.reason == "first"


def test_a_run_that_ended_early_says_why_at_its_end_and_when_it_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patience = {"train.early_stopping": {"patience": 1, "min_delta": 100.0}, "run.display": "plain"}
    for epochs in (5, 9):
        fit(tmp_path, overrides={**patience, "train.epochs": epochs}, resume="auto")
        assert "ended early val_loss has not improved for 1 epochs" in " ".join(capsys.readouterr().out.split())
    assert "has not improved" in json.loads((tmp_path / "run" / "result.json").read_text())["finish"]


def test_the_state_of_callbacks_is_kept(tmp_path: Path) -> None:
    whole = fit(tmp_path / "a", callbacks=[Counting()])
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path / "b", callbacks=[Counting()], overrides={"run.stop_at_step": 6})
    counting = Counting()
    assert fit(tmp_path / "b", callbacks=[counting], resume="auto").weights_sha256 == whole.weights_sha256
    assert counting.epochs == 3


def test_an_error_of_a_callback_is_the_users(tmp_path: Path) -> None:
    class Wrong(hpcnn.Callback):
        def on_epoch_end(self, report: Any, replica: Any, control: Any) -> None:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(tmp_path, callbacks=[Wrong()], overrides={"run.timeline": True})
    activity = hpcnn.connect().activity
    assert (activity.on_enter, activity.exchange_thread) == (None, None), "the timeline still listens"


class Keeping(hpcnn.Callback):
    """Keeps whatever it is given, but for a start nothing."""

    def __init__(self, state: Any = None, arrays: Any = None) -> None:
        self.before = self.kept = {}, {}
        self.after = state, arrays

    def on_step(self, report: hpcnn.StepReport) -> None:
        self.kept = self.after

    def state(self) -> Any:
        return self.kept[0]

    def arrays(self) -> Any:
        return self.kept[1]

    def load(self, state: Any, arrays: Any) -> None:
        self.before = state, arrays


def test_a_state_of_any_kind_is_kept(tmp_path: Path) -> None:
    state = {"text": "ä", "list": [1, {"a": None}], "flag": True, "none": None}
    arrays = {"row": np.arange(5), "one": np.array(2.5), "flags": np.zeros((2, 0), bool)}
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path, callbacks=[Keeping(state, arrays)], overrides={"run.stop_at_step": 2})
    assert not hpcnn.load(tmp_path / "run", "last").complete
    again = Keeping({}, {})
    fit(tmp_path, callbacks=[again], resume="auto")
    assert again.before[0] == state
    assert again.before[1].keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again.before[1][name], array, strict=True)


@pytest.mark.parametrize(
    ("state", "arrays", "message"),
    [
        ({"best": np.float32(1)}, {}, r"the state of callback Keeping_1 can't be saved: Object of type float32 is not"),
        ([1], {}, r"the state of callback Keeping_1 can't be saved: it is list. Let its state\(\) return a dict"),
        ({"text": "\ud800"}, {}, r"the state of callback Keeping_1 can't be saved: 'utf-8' codec"),
        ({}, {"x": np.array(["a"])}, r"array 'x' of callback Keeping_1 can't be saved: it is <U1. Let its arrays"),
        ({}, {"x": [1.0]}, r"array 'x' of callback Keeping_1 can't be saved: it is <class 'list'>"),
    ],
)
def test_a_state_that_no_file_can_hold(state: Any, arrays: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        fit(tmp_path, callbacks=[Keeping(state, arrays)])
    assert not list(tmp_path.rglob("*.safetensors"))
