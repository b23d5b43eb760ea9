"""A fit that is interrupted, what it leaves behind, and how it goes on."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import hpcnn
from hpcnn.errors import CheckpointError, DataError
from hpcnn.system.blas import fingerprint
from tests.api.fitting import X, Y, fit


@dataclass
class Interrupter(hpcnn.Callback):
    """Sends this process a signal at some step, as Ctrl-C does."""

    step: int
    times: list[int] = field(default_factory=list)

    def on_step(self, report: hpcnn.StepReport) -> None:
        self.times.append(report.step_in_epoch)
        if len(self.times) == self.step:
            signal.raise_signal(signal.SIGINT)


def test_interrupted_and_gone_on_with(fitted: hpcnn.Fitted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        hpcnn.TrainingStoppedError, match=r"stopped after step 6, 1 epochs done.*resume='auto'"
    ) as stopped:
        fit(tmp_path, callbacks=[Interrupter(5)])  # seen by the step after it
    assert stopped.value.exit_code == 75
    half = stopped.value.fitted
    assert not half.complete
    assert half.predict(X).shape == (60, 3)
    assert hpcnn.load(half.folder, "last").weights_sha256 == half.weights_sha256 != fitted.weights_sha256
    assert not hpcnn.load(half.folder, "last").complete
    half.save(tmp_path / "half.safetensors")
    assert hpcnn.load(tmp_path / "half.safetensors").weights_sha256 == half.weights_sha256
    whole = fit(tmp_path, resume="auto")
    with pytest.raises(CheckpointError, match=r"last.safetensors' holds other weights than this model.*Save a model"):
        half.save(tmp_path / "half.safetensors")
    assert hpcnn.load(tmp_path / "half.safetensors").weights_sha256 == half.weights_sha256
    assert whole.weights_sha256 == fitted.weights_sha256
    assert [line["epoch"] for line in whole.history] == [1, 2, 3]
    again = fit(tmp_path, resume=whole.folder, out=None)
    assert (again.weights_sha256, again.values, again.complete) == (whole.weights_sha256, whole.values, True)
    assert "is complete already" in capsys.readouterr().out


def test_a_second_interrupt_leaves_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.api.ranks.REPEAT_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, callbacks=[Interrupter(2), Interrupter(2)])


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    def state() -> tuple[Any, ...]:
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
        hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
        return *map(signal.getsignal, signals), *hooks, fingerprint(), threading.active_count()

    class Look(hpcnn.Callback):
        def on_train_end(self, replica: Any) -> None:
            assert signal.getsignal(signal.SIGINT) != before[0]

    before = state()
    fit(tmp_path, callbacks=[Look()])
    assert state() == before
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path / "b", overrides={"run.stop_at_step": 1})
    with pytest.raises(DataError):
        fit(tmp_path / "c", (X, Y[:-1]))
    assert state() == before


def test_other_arrays_are_refused_on_resume(tmp_path: Path) -> None:
    with pytest.raises(hpcnn.TrainingStoppedError):
        fit(tmp_path, overrides={"run.stop_at_step": 2})
    changed = X.copy()
    changed[7, 1] += 1e-9
    with pytest.raises(
        CheckpointError, match=r"data changed since the run was started.* training data: the values of the inputs"
    ):
        fit(tmp_path, (changed, Y), resume="auto")
    with pytest.raises(CheckpointError, match=r"validation data: 20 rows then, 0 now"):
        fit(tmp_path, resume="auto", validation=None)
