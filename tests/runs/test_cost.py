"""What a short run does beside its steps, counted: times differ from machine to machine, counts do not."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import hpcnn
from tests.api.fitting import JOB, X, Y
from tests.forks import ends_in_a_child

RUN = {"display": "none", "checkpoint_gap_s": 60}


def fit(out: Path, **options: Any) -> hpcnn.Fitted:
    return hpcnn.fit({**JOB, "train": {**JOB["train"], "epochs": 6}, "run": RUN}, (X, Y), out=out, **options)


def test_two_threads_are_started_for_small_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes as long to start and to end as a dozen small steps, and longer on a busy machine."""
    started, start = [], threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    fit(tmp_path / "run")
    assert sorted(started) == ["lease", "watchdog"]


def test_an_epoch_opens_no_file_but_for_its_line(tmp_path: Path) -> None:
    fit(tmp_path / "first")
    opened: list[Counter[str]] = []

    class Epochs(hpcnn.Callback):
        def on_epoch_end(self, *arguments: Any) -> None:
            opened.append(Counter())

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and opened and threading.current_thread() is threading.main_thread():
            opened[-1][Path(str(arguments[0])).name] += 1

    def watched() -> None:
        sys.addaudithook(look)  # for ever: so in a process of its own
        fit(tmp_path / "run", callbacks=[Epochs()])
        assert [set(files) for files in opened[1:-1]] == [{"metrics.jsonl"}] * 4

    assert ends_in_a_child(watched)
