"""Lines of metrics.jsonl and time.jsonl: in order, none twice and none lost, whatever becomes of disk and ranks."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import hpcnn
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import EXIT_FAILURE
from hpcnn.job.load import load_job
from hpcnn.runs import run
from hpcnn.runs.checkpoints import saver
from hpcnn.runs.prepare import Extras
from hpcnn.runs.records import metrics_log
from hpcnn.runs.records.line_log import append_lines
from hpcnn.runs.records.metrics_log import MetricsLog
from hpcnn.runs.records.time_log import TimeLog
from hpcnn.runs.run import UnsavedError
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.session import train
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica


def end(log: MetricsLog, *epochs: int) -> None:
    for epoch in epochs:
        report = EpochReport(epoch, 10 * epoch, 0.1, {"loss": 1 / epoch}, seconds=1.0, samples_per_s=9.0)
        log.on_epoch_end(report, None, Control())  # type: ignore[arg-type]


def epochs_in(path: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()]


def test_lines_wait_while_the_folder_is_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    log = MetricsLog(folder)
    log.begin(0, writes=True)
    end(log, 1)
    away = folder.path.rename(tmp_path / "away")
    end(log, 2, 3, 4)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith("warning: metrics.jsonl can't be written ([Errno 2] No such file or directory: ")
    assert said.endswith("training continues, its lines wait in memory, and it is tried again\n")
    away.rename(folder.path)
    end(log, 5, 6)
    assert capsys.readouterr().out == "metrics.jsonl is written again: 4 lines that had waited\n"
    assert epochs_in(folder.metrics) == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_is_full_takes_all_lines_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a part of what is written first: a part of it may be whole lines."""
    folder, free = RunFolder(tmp_path), [10**6]
    write = io.FileIO.write
    log = MetricsLog(folder)
    log.begin(0, writes=True)

    class Disk(io.FileIO):
        def write(self, content: object) -> int:
            part = bytes(content)[: free[0]]  # type: ignore[call-overload]
            if not part:
                raise OSError(28, "No space left on device")
            free[0] -= len(part)
            return write(self, part)

    path_open = Path.open

    def on_the_disk(self: Path, *how: str, **more: Any) -> Any:
        return Disk(str(self), how[0].replace("b", "")) if more.get("buffering") == 0 else path_open(self, *how, **more)

    monkeypatch.setattr(Path, "open", on_the_disk)
    end(log, 1)
    size = folder.metrics.stat().st_size
    for room in (0, 10, size, 2 * size - 1):
        free[0] = room
        end(log, len(log.log.waiting) + 2)
        assert epochs_in(folder.metrics) == [1]
    free[0] = 10**6
    end(log, 6)
    assert epochs_in(folder.metrics) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("back", ["before", "after"])
def test_whoever_takes_over_writes_what_the_lost_rank_has_not(tmp_path: Path, back: str) -> None:
    folder, away = RunFolder(tmp_path / "run"), tmp_path / "away"
    folder.path.mkdir()

    def body(comm: ThreadCommunicator) -> MetricsLog:
        log = MetricsLog(folder, comm)
        log.begin(0, writes=comm.rank == 0)
        end(log, 1, 2)
        comm.barrier()
        if comm.rank == 0:
            folder.path.rename(away)
        end(log, 3, 4)
        return log

    heir = run_threads(2, body)[1]
    if back == "before":
        away.rename(folder.path)
    heir.begin(4, writes=True, recovered=True)
    end(heir, 5)
    if back == "after":
        away.rename(folder.path)
    end(heir, 6)
    assert epochs_in(folder.metrics) == [1, 2, 3, 4, 5, 6]


def test_a_lost_rank_had_written_more_than_those_left_came_to(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    heir = MetricsLog(folder, SerialCommunicator())
    end(heir, 1, 2, 3)
    append_lines(folder.metrics, {"epoch": 1}, {"epoch": 2}, {"epoch": 3})
    heir.begin(2, writes=True, recovered=True)
    assert epochs_in(folder.metrics) == [1, 2]
    end(heir, 3)
    assert epochs_in(folder.metrics) == [1, 2, 3]


def test_who_does_not_write_keeps_no_more_than_it_has_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log, "TELL_EPOCHS", 4)

    def body(comm: ThreadCommunicator) -> list[int]:
        log = MetricsLog(RunFolder(tmp_path), comm)
        log.begin(0, writes=comm.rank == 0)
        end(log, *range(1, 10))
        return [line["epoch"] for line in log.log.waiting]

    assert run_threads(2, body) == [[], [9]]
    alone = MetricsLog(RunFolder(tmp_path))
    end(alone, 1)
    assert alone.log.waiting == []


def test_seconds_of_ranks_wait_as_well(tmp_path: Path) -> None:
    folder, away = RunFolder(tmp_path / "run"), tmp_path / "away"
    folder.path.mkdir()

    def body(comm: ThreadCommunicator) -> TimeLog:
        account = TimeLog(comm, folder)
        account.on_train_begin(0, None)  # type: ignore[arg-type]
        for step in range(1, 5):
            comm.activity.step = step
            account.gather()
            comm.barrier()
            if comm.rank == 0 and step == 1:
                folder.path.rename(away)
        return account

    first, heir = run_threads(2, body)
    assert [line["step"] for line in first.log.waiting] == [2, 3, 4] == [line["step"] for line in heir.log.waiting]
    away.rename(folder.path)
    heir.write()  # as if the first had been lost
    assert [json.loads(line)["step"] for line in folder.time.read_text().splitlines()] == [1, 2, 3, 4]


class Breaks(Callback):
    """Puts a folder in the place of a file of the run in the second epoch, and takes it away in another one."""

    def __init__(self, path: Path, until: int) -> None:
        self._path, self._until = path, until

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        if report.epoch == 2:
            self._path.rename(self._path.with_suffix(".kept"))
            self._path.mkdir()
        elif report.epoch == self._until:
            self._path.rmdir()
            self._path.with_suffix(".kept").rename(self._path)


JOB = {
    "data": {"source": "synthetic", "kind": "linear", "samples": 40, "features": 3},
    "model": {"layers": [{"type": "dense", "units": 1}]},
    "loss": {"name": "mse"},
    "train": {"epochs": 6, "batch_size": 10, "shards": 2},
    "run": {"display": "quiet"},
}


def test_a_training_whose_log_is_away_for_a_while(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hpcnn.fit(JOB, out=tmp_path, callbacks=[Breaks(tmp_path / "metrics.jsonl", until=4)])
    assert epochs_in(tmp_path / "metrics.jsonl") == [1, 2, 3, 4, 5, 6]
    said = capsys.readouterr().out
    assert said.count("warning: metrics.jsonl can't be written") == 1
    assert said.count("metrics.jsonl is written again: ") == 1


def test_a_training_whose_log_stays_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LAST_TRIES_S", 0.1)
    monkeypatch.setattr(run, "LAST_PAUSE_S", 0.02)
    (tmp_path / "job.toml").write_text(
        '[data]\nsource = "synthetic"\nkind = "linear"\nsamples = 40\nfeatures = 3\n[model]\nlayers = [{ type = '
        '"dense", units = 1 }]\n[loss]\nname = "mse"\n[train]\nepochs = 6\nbatch_size = 10\nshards = 2\n'
    )
    extras = Extras(callbacks={"breaks": Breaks(tmp_path / "run" / "metrics.jsonl", until=9)})
    outcome = train(
        load_job(tmp_path / "job.toml"), SerialCommunicator(), out=tmp_path / "run", resume="never", extras=extras
    )
    assert outcome.exit_code == EXIT_FAILURE
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"error: 5 lines of metrics.jsonl are lost: .*Is a directory.*", last)
    assert (tmp_path / "run" / "result.json").exists()


class Leaves(Callback):
    """Takes the run folder away after an epoch."""

    def __init__(self, path: Path, epoch: int) -> None:
        self._path, self._epoch = path, epoch

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        if report.epoch == self._epoch:
            self._path.rename(self._path.with_name("away"))


def test_a_training_whose_folder_stays_away_shows_its_result_and_is_finished_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (run, saver):
        monkeypatch.setattr(module, "LAST_TRIES_S", 0.1)
        monkeypatch.setattr(module, "LAST_PAUSE_S", 0.02)
    path = tmp_path / "run"
    job = JOB | {"run": {"display": "quiet", "checkpoint_gap_s": 0}}
    words = (
        rf"the finished model could not be written to '{path}' \(No such file or directory\); the newest checkpoint "
        rf"is of step 4\. Put the folder back, or make room, and finish the run with: --resume {path}$"
    )
    with pytest.raises(UnsavedError, match=words) as raised:
        hpcnn.fit(job, out=path, callbacks=[Leaves(path, epoch=2)])
    assert raised.value.exit_code == EXIT_FAILURE
    lines = capsys.readouterr().out.splitlines()
    sha256 = next(line for line in lines if line.startswith("weights sha256 "))
    assert any(line.startswith("error: 5 lines of metrics.jsonl are lost: ") for line in lines)
    (tmp_path / "away").rename(path)
    hpcnn.fit(job, out=path, resume="auto", callbacks=[Leaves(path, epoch=0)])
    assert sha256 in capsys.readouterr().out
    assert epochs_in(path / "metrics.jsonl") == [1, 2, 3, 4, 5, 6]
