"""How a run stands: from its folder, from the queue, and from both together; and how that is shown."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpcnn import cancel as cancel_command
from hpcnn import logs as logs_command
from hpcnn import status as status_command
from hpcnn.errors import CheckpointError
from hpcnn.slurm.logs import follow, last_lines
from hpcnn.slurm.queue import QueuedJob
from hpcnn.slurm.run_files import RunFiles, job_numbers, read_json, read_lines, recent_runs
from hpcnn.slurm.selection import Selection, select, select_run, writes_to
from hpcnn.slurm.status import Status, statuses
from hpcnn.slurm.tables import card, line, overview

Put = Callable[[str, str], Path]
PROGRESS = {"epoch": 2, "epochs": 9, "step": 50, "steps": 225, "loss": 0.5, "samples_per_s": 1e4, "left_s": 61.0}


class Folder:
    """Writes a run folder as trainer, template and `hpcnn submit` do."""

    def __init__(self, path: Path) -> None:
        self.run = RunFiles(path)
        path.mkdir(parents=True)

    def submitted(self, job_id: str, at: float = 1.0) -> Folder:
        return self._add(self.run.submissions, {"time": at, "job_id": job_id})

    def start(self, job_id: int, attempt: int = 0, at: float = 2.0) -> Folder:
        facts = {"attempt": attempt, "job_id": job_id, "nodes": 2, "tasks": 4, "time": at}
        return self._add(self.run.attempts, {**facts, "event": "start", "exit_code": None})

    def end(self, job_id: int, code: int, attempt: int = 0, at: float = 3.0) -> Folder:
        facts = {"attempt": attempt, "job_id": job_id, "nodes": 2, "tasks": 4, "time": at}
        return self._add(self.run.attempts, {**facts, "event": "end", "exit_code": code})

    def progress(self, at: float = 2.5, **more: Any) -> Folder:
        self.run.progress.write_text(json.dumps({**PROGRESS, "time": at, "ranks": 4, "hosts": 2, **more}))
        return self

    def done(self, **result: Any) -> Folder:
        self.run.result.write_text(json.dumps({"epochs": 9, "steps": 225, **result}))
        return self

    def _add(self, path: Path, table: dict[str, Any]) -> Folder:
        with path.open("a") as file:
            file.write(json.dumps(table) + "\n")
        return self


@pytest.fixture
def folder(here: Path) -> Folder:
    return Folder(here / "runs" / "a")


def job(state: str, job_id: str = "7", **more: Any) -> QueuedJob:
    return QueuedJob(job_id, state, **{"nodes": 2, "left_s": 90.0, **more})


def status(folder: Folder, *jobs: QueuedJob) -> Status:
    (one,) = statuses(Selection(folder.run, jobs))
    return one


# ------------------------------------------------------------------------------------------------ in the queue


@pytest.mark.parametrize(
    ("state", "reason", "shown", "why"),
    [
        ("PENDING", "Priority", "pending", "others are before it (Priority)"),
        ("RUNNING", "None", "starting", ""),
        ("CONFIGURING", "None", "starting", ""),
        ("SUSPENDED", "None", "suspended", ""),
    ],
)
def test_a_job_that_has_not_begun(folder: Folder, state: str, reason: str, shown: str, why: str) -> None:
    one = status(folder.submitted("7"), job(state, reason=reason))
    assert (one.state, one.why, one.job_id, one.restarts, one.unfinished) == (shown, why, "7", 0, True)


def test_a_job_that_trains(folder: Folder) -> None:
    one = status(folder.submitted("7").start(7).progress(), job("RUNNING", hosts="node[1-2]"))
    assert (one.state, one.epoch, one.epochs, one.step, one.steps, one.loss) == ("running", 2, 9, 50, 225, 0.5)
    assert (one.left_s, one.wall_left_s, one.samples_per_s, one.ranks, one.nodes) == (61.0, 90.0, 1e4, 4, 2)


def test_a_job_that_comes_back(folder: Folder) -> None:
    folder.submitted("7").start(7).progress().end(7, 75)
    one = status(folder, job("PENDING", reason="BeginTime", start="2026-01-02T03:04:05"))
    assert (one.state, one.step, one.left_s, one.wall_left_s) == ("requeued", 50, None, None)
    assert one.starts_at == "2026-01-02T03:04:05"
    folder.start(7, attempt=1, at=4)
    assert status(folder, job("RUNNING")).state == "starting"
    folder.progress(at=5)
    assert (status(folder, job("RUNNING")).state, status(folder, job("RUNNING")).restarts) == ("running", 1)


def test_a_run_that_was_submitted_again_starts_to_count_anew(folder: Folder) -> None:
    folder.submitted("7").start(7).end(7, 75).start(7, attempt=1).end(7, 75, attempt=1, at=5).submitted("9", at=6)
    one = status(folder, job("PENDING", "9", reason="Priority"))
    assert (one.state, one.restarts, one.job_id) == ("pending", 0, "9")


# ------------------------------------------------------------------------------------------------ no longer there


@pytest.mark.parametrize(
    ("code", "state", "why", "exit_code"),
    [
        (75, "stopped", "saved", 75),
        (2, "failed", "bad input", 1),
        (70, "failed", "no progress", 1),
        (1, "failed", "exit code 1", 1),
        (0, "failed", "exit code 0", 1),
    ],
)
def test_how_a_run_ended(folder: Folder, code: int, state: str, why: str, exit_code: int) -> None:
    one = status(folder.submitted("7").start(7).progress().end(7, code))
    assert (one.state, one.exit_code, one.unfinished, one.left_s) == (state, exit_code, False, None)
    assert why in one.why


def test_a_run_that_is_done(folder: Folder) -> None:
    one = status(folder.submitted("7").start(7).progress().end(7, 0).done())
    assert (one.state, one.why, one.epoch, one.step, one.exit_code) == ("done", "", 9, 225, 0)


def test_a_run_that_is_cancelled(folder: Folder) -> None:
    folder.submitted("7").start(7).end(7, 75).run.cancelled.touch()
    assert (status(folder).state, status(folder).exit_code) == ("cancelled", 75)


@pytest.mark.parametrize(
    ("sacct", "state", "why"),
    [
        ("echo NODE_FAIL", "failed", "Slurm: NODE_FAIL"),
        ("echo 'CANCELLED by 0'", "cancelled", "Slurm: CANCELLED"),
        ("exit 1", "failed", "ended without a message"),
    ],
)
def test_a_run_that_ended_without_a_word(folder: Folder, put: Put, sacct: str, state: str, why: str) -> None:
    put("squeue", "true")
    put("sacct", sacct)
    one = status(folder.submitted("7").start(7))
    assert (one.state, one.why.startswith(why)) == (state, True)


def test_a_job_that_left_no_trace(folder: Folder, put: Put) -> None:
    one = status(folder.submitted("7"))
    assert (one.state, one.why) == ("unknown", "job 7 is not in the queue, and there is no record of it")


def test_a_run_without_slurm(folder: Folder) -> None:
    assert status(folder.progress(at=time.time())).state == "running"
    assert status(folder.progress(at=time.time() - 1000)).state == "stopped"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "x", "loss": null, "epoch": true}'])
def test_a_progress_file_that_makes_no_sense(folder: Folder, text: str) -> None:
    folder.submitted("7").start(7).run.progress.write_text(text)
    one = status(folder, job("RUNNING"))
    assert (one.step, one.loss, one.epoch) == (None, None, None)


# ------------------------------------------------------------------------------------------------ sweeps


def test_a_sweep_has_a_line_for_each_element(here: Path) -> None:
    sweep = Folder(here / "runs" / "s").submitted("7")
    sweep.run.sweep.write_text("[values]\na = [1, 2, 3, 4]\n")
    Folder(sweep.run.path / "0").start(8).end(8, 0).done()
    Folder(sweep.run.path / "1").start(9).progress()
    of_sweep = f"hpcnn:{sweep.run.path}"
    jobs = [job("RUNNING", "7_1", comment=of_sweep), job("PENDING", "7_[2-3%2]", comment=of_sweep)]
    assert [one.state for one in statuses(Selection(sweep.run, jobs))] == ["done", "running", "pending"]


@pytest.mark.parametrize(
    ("comment", "job_id", "run", "yes"),
    [
        ("hpcnn:{}/s", "7", "s", True),
        ("hpcnn:{}/s", "7", "s/1", False),
        ("hpcnn:{}/s", "7_1", "s", True),
        ("hpcnn:{}/s", "7_1", "s/1", True),
        ("hpcnn:{}/s", "7_1", "s/2", False),
        ("hpcnn:{}/s/1", "7_1", "s", True),
        ("hpcnn:{}/s/1", "7_1", "s/1", True),
        ("hpcnn:{}/s/1", "7_1", "s/2", False),
        ("hpcnn:{}/t", "7", "s", False),
        ("my words", "7", "s", False),
    ],
)
def test_which_job_is_of_which_run(tmp_path: Path, comment: str, job_id: str, run: str, yes: bool) -> None:
    assert writes_to(job("RUNNING", job_id, comment=comment.format(tmp_path)), RunFiles(tmp_path / run)) is yes


def test_a_comment_that_a_site_has_changed(folder: Folder) -> None:
    assert writes_to(job("RUNNING", "7", comment="site: ok"), folder.submitted("7").run)


# ------------------------------------------------------------------------------------------------ RUN or JOBID


def printed(**fields: str) -> str:
    """Return a stand-in for squeue with one job."""
    values = {"i": "7", "T": "RUNNING", "r": "None", "D": "2", "N": "n1", "L": "5:00", "S": "N/A", "k": "", "j": "a"}
    return "\\037".join((values | fields).values()) + "\\036\\n"


def test_a_run_is_found_by_the_number_of_its_job(folder: Folder, put: Put) -> None:
    put("squeue", "exit 0")
    assert select("17" if folder.submitted("17") else "").run == RunFiles(Path("runs/a"))
    put("squeue", f"printf '{printed(k=f'hpcnn:{folder.run.path}')}'")
    assert select("7").run == folder.run
    assert [one.job_id for one in select("runs/a").active] == ["7"]


def test_a_job_that_ended_tells_how_its_run_stands_now(folder: Folder, put: Put) -> None:
    folder.submitted("7").start(7).end(7, 75).submitted("8", at=9)
    ended, running = (
        printed(k=f"hpcnn:{folder.run.path}", **more) for more in ({"T": "FAILED"}, {"i": "8", "T": "RUNNING"})
    )
    put("squeue", f"case \"$*\" in *--jobs=7*) printf '{ended}';; *) printf '{running}';; esac")
    assert [one.job_id for one in select_run("7").active] == ["8"]
    assert not select("7").active


@pytest.mark.parametrize("name", ["99", "runs/none"])
def test_no_such_run(folder: Folder, put: Put, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    put("squeue", "exit 0")
    folder.submitted("7")
    for main in (status_command.main, logs_command.main, cancel_command.main):
        assert main([name]) == 2
        err = capsys.readouterr().err
        assert err.startswith("hpcnn: error: ")
        assert "Slurm does not know job 99" in err if name == "99" else "Runs here: runs/a" in err


def test_folders_are_shown_on_a_machine_without_slurm(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    folder.submitted("7").start(7).end(7, 0).done()
    assert status_command.main(["--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["runs"]
    assert (one["run"], one["state"], one["step"]) == (str(folder.run.path), "done", 225)


def test_no_runs_at_all(here: Path, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("squeue", "exit 0")
    assert status_command.main([]) == 0
    assert capsys.readouterr().out.startswith("no runs: you have none in the queue")


def test_the_newest_runs_come_first(here: Path) -> None:
    import os

    for number, name in enumerate(["b", "c", "a"]):
        run = Folder(here / "runs" / name).submitted(str(number)).run
        for path in (run.submissions, run.path):
            os.utime(path, (number, number))
    assert [run.path.name for run in recent_runs(2)] == ["a", "c"]


def test_folders_of_others_are_left_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "theirs"):
        Folder(here / "runs" / name).submitted("1")
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "theirs")  # root may look into each
    assert [run.path.name for run in recent_runs(2)] == ["mine"]


def test_damaged_lines_are_left_out(folder: Folder) -> None:
    folder.run.attempts.write_bytes(b'{"job_id": 1, "time": 1}\n\xff\n[1]\n{"job_id"')
    assert read_lines(folder.run.attempts) == [{"job_id": 1, "time": 1}]
    assert job_numbers(folder.run) == ["1"]
    assert (read_json(folder.run.attempts), read_json(folder.run.path), read_lines(folder.run.path)) == ({}, {}, [])


# ------------------------------------------------------------------------------------------------ shown


RUNNING = Status("/r/a b", "running", "", "7", "n", 2, "node[1-2]", 4, 2, 9, 50, 225, 0.5, 12345.0, 61.0, 3601.0, 1)
WAITING = Status("", "pending", "others are before it (Priority)", "8", "named", 1)


def drawn(picture: object, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width).print(picture)
    return text.getvalue()


def test_many_runs_are_a_table() -> None:
    wide, narrow = (drawn(overview([RUNNING, WAITING], width), width) for width in (140, 80))
    assert "/r/a b" in wide
    for words in ("running", "2/9", "50/225", "0.5", "12,345", "1:01", "1:00:01"):
        assert words in wide
    assert "restarts" in wide
    assert "restarts" not in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    for words in ("running", "2/9", "0.5", "1:01", "1:00:01"):
        assert words in narrow
    assert "named: pending: others are before it (Priority)" in wide


def test_one_run_is_a_card() -> None:
    assert "1:01 of training, 1:00:01 of wall time" in drawn(card(RUNNING), 80)
    assert "2 (node[1-2]), 4 ranks" in drawn(card(RUNNING), 80)
    assert "pending: others are before it (Priority)" in drawn(card(WAITING), 80)


def test_a_run_on_one_line() -> None:
    assert line(RUNNING) == (
        "7 /r/a b:  running  epoch 2/9  step 50/225  loss 0.5  12,345 samples/s  "
        "left 1:01  wall left 1:00:01  restarts 1"
    )
    assert line(WAITING) == "8 named:  pending (others are before it (Priority))"


# ------------------------------------------------------------------------------------------------ logs, cancel


def test_logs_of_attempts(folder: Folder, put: Put, capsys: pytest.CaptureFixture[str]) -> None:
    put("squeue", "exit 0")
    folder.submitted("7").run.logs.mkdir()
    assert logs_command.main(["runs/a"]) == 2
    assert "has no log yet" in capsys.readouterr().err
    for attempt in (0, 9, 10):
        (folder.run.logs / f"attempt-{attempt}.log").write_text("".join(f"{attempt}: {i}\n" for i in range(50)))
    assert logs_command.main(["runs/a", "-n", "1"]) == 0
    assert capsys.readouterr().out == "10: 49\n"
    (folder.run.logs / "slurm-7.out").write_text("all\n")
    assert logs_command.main(["runs/a"]) == 0
    assert capsys.readouterr().out == "all\n"
    assert logs_command.main(["runs/a", "--attempt", "0", "-n", "0"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 50
    assert logs_command.main(["runs/a", "--attempt", "3"]) == 2
    assert "Attempts with a log: 0, 9, 10." in capsys.readouterr().err


def test_a_log_is_followed_into_the_next_attempt(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpcnn.slurm.logs._END_EVERY_S", 0)
    folder.run.logs.mkdir()
    first, second = (folder.run.logs / f"attempt-{attempt}.log" for attempt in (0, 1))
    first.write_text("before\n")
    parts = follow(folder.run, first, last_lines(first, 1)[1], lambda: False)
    with first.open("a") as file:
        file.write("one\n")
    assert next(parts) == "one\n"
    second.write_text("two\n")
    assert [next(parts), next(parts)] == ["==> attempt-1.log <==\n", "two\n"]
    assert list(parts) == []


def test_cancel_asks_those_that_run_and_takes_out_those_that_wait(folder: Folder, put: Put, here: Path) -> None:
    put("scancel", 'echo "$@" >>said')
    of_run = f"hpcnn:{folder.run.path}"
    put(
        "squeue",
        f"printf '{printed(i='7_1', k=of_run)}{printed(i='7_[2-5%%2]', T='PENDING', k=of_run)}'",
    )
    (folder.submitted("7").run.path / "sweep.toml").touch()
    element = Folder(folder.run.path / "1").start(8)
    assert cancel_command.main(["runs/a"]) == 0
    assert Path("said").read_text() == "7_[2-5]\n--batch --signal=USR1 7_1\n"
    assert folder.run.cancelled.exists()
    assert element.run.cancelled.exists()
    assert cancel_command.main(["runs/a", "--now"]) == 0
    assert Path("said").read_text().splitlines()[2:] == ["7_1 7_[2-5]"]


def test_there_is_nothing_to_cancel(folder: Folder, put: Put) -> None:
    from hpcnn.slurm.cancel import cancel

    put("squeue", "exit 0")
    with pytest.raises(CheckpointError, match=r"runs/a has no job in the queue"):
        cancel(select(str(folder.submitted("7").run.path)), "runs/a", now=False)
    assert not folder.run.cancelled.exists()
