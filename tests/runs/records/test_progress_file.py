"""The trace that a training leaves: right numbers, seldom written, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpcnn.runs import run_info
from hpcnn.runs.records import progress_file
from hpcnn.runs.records.progress_file import EPOCH_GAP_S, EVERY_S, ProgressFile
from hpcnn.runs.run_info import LiveStatus, RunInfo
from hpcnn.training.callbacks import Control, EpochReport
from hpcnn.training.loop import Progress
from tests.small_jobs import at_step

INFO = RunInfo("job", "folder", 4, 2, 8, 1000, 0, 9, 100, 10, 5)
REPORT = EpochReport(1, 10, 0.1, {}, 1.0, 1000.0)


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1000.0 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (progress_file, run_info):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def progress() -> Progress:
    return Progress(epoch=1, step=10, values={"loss": 0.75, "confusion_matrix": np.eye(2), "f1": float("nan")})


@pytest.fixture
def trace(clock: Clock, progress: Progress, tmp_path: Path) -> ProgressFile:
    status = LiveStatus(INFO, progress, lambda: float(np.divide(*progress.stats)))
    trace = ProgressFile(tmp_path / "progress.json", status)
    trace.on_train_begin(1, None)  # type: ignore[arg-type]
    return trace


def read(folder: Path) -> dict[str, Any]:
    assert [path.name for path in folder.iterdir()] == ["progress.json"]
    return dict(json.loads((folder / "progress.json").read_text(), parse_constant=pytest.fail))


def test_where_it_starts_from(trace: ProgressFile, tmp_path: Path) -> None:
    content = read(tmp_path)
    assert content.pop("pid") > 0
    told = {"time": 1100.0, "epoch": 1, "epochs": 5, "step": 10, "steps": 50, "loss": 0.75, "ranks": 4, "hosts": 2}
    assert content == told | {"values": {"loss": 0.75, "f1": None}, "samples_per_s": None, "left_s": None}


def test_within_an_epoch(trace: ProgressFile, clock: Clock, progress: Progress, tmp_path: Path) -> None:
    progress.step, progress.step_in_epoch, progress.stats = 14, 4, np.array([6.0, 4.0])
    clock.now += EVERY_S - 0.1
    trace.on_step(at_step(4))
    assert read(tmp_path)["step"] == 10
    clock.now += 0.1
    trace.on_step(at_step(4))
    content = read(tmp_path)
    assert (content["step"], content["loss"]) == (14, 1.5)
    assert content["samples_per_s"] == pytest.approx(4 * 100 / EVERY_S)  # 4 steps of 100 samples
    assert content["left_s"] == pytest.approx(36 * EVERY_S / 4)


def test_short_epochs_are_not_spent_on_writing(
    trace: ProgressFile, clock: Clock, progress: Progress, tmp_path: Path
) -> None:
    progress.epoch = 2
    clock.now += EPOCH_GAP_S / 2
    trace.on_epoch_end(REPORT, None, Control())  # type: ignore[arg-type]
    assert read(tmp_path)["epoch"] == 1
    clock.now += EPOCH_GAP_S / 2
    trace.on_epoch_end(REPORT, None, Control())  # type: ignore[arg-type]
    assert read(tmp_path)["epoch"] == 2


def test_the_job_of_slurm(trace: ProgressFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    trace.write()
    assert (read(tmp_path)["job_id"], read(tmp_path)["restarts"]) == ("17", "2")


def test_a_disk_that_is_full_is_mentioned_once(
    trace: ProgressFile, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    for _ in range(3):
        trace.write()
    assert capsys.readouterr().out == (
        "warning: progress.json can't be written ([Errno 28] No space left on device); training continues\n"
    )
