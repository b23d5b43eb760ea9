"""A run that is killed at any moment resumes to the same end, and what it has saved does not depend on a later sync."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hpcnn
from hpcnn.runs.run_folder import RunFolder
from tests.api.fitting import HELD, JOB, X, Y
from tests.forks import exit_code_of

EPOCHS = 3
EACH_EPOCH = {"display": "none", "checkpoint_gap_s": 0, "keep_checkpoints": 1}
AT_THE_END = {"display": "none"}
CHANGES = ("fsync", "link", "mkdir", "open", "rename", "replace", "rmdir", "unlink")
"""The functions by which a run changes its folder; files are opened by others too, when they are written."""


def fit(out: Path, run: dict[str, Any], **options: Any) -> hpcnn.Fitted:
    train = {**JOB["train"], "epochs": EPOCHS}
    return hpcnn.fit({**JOB, "train": train, "run": run}, (X, Y), validation=HELD, out=out, **options)


@contextmanager
def before_changes(look: Callable[..., None]) -> Iterator[None]:
    """Call ``look(name, *arguments)`` before each change to a folder. Nothing is synced: kills do not need it."""

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            look(name, *arguments)
            return None if name == "fsync" else function(*arguments, **options)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, watched(name, getattr(os, name)))
        yield


def names(folder: Path) -> list[str]:
    """Return all files of a run, but for older states: the next save would delete them."""
    older = RunFolder(folder).step_files()[1:]
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path not in older)


@pytest.mark.parametrize("run", [EACH_EPOCH, AT_THE_END], ids=["saves each epoch", "saves at the end"])
def test_a_run_that_is_killed_before_any_change_of_its_folder_resumes_to_the_same_end(
    tmp_path: Path, run: dict[str, Any]
) -> None:
    seen: list[str] = []
    with before_changes(lambda name, *arguments: seen.append(name)):
        straight = fit(tmp_path / "straight", run)
    assert {"fsync", "link", "mkdir", "replace"} <= set(seen)
    for place in range(len(seen)):
        killed = tmp_path / str(place)

        def die(place: int = place, killed: Path = killed) -> None:
            left = iter(range(place, -1, -1))

            def look(name: str, *arguments: Any) -> None:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            with before_changes(look):
                fit(killed, run)

        assert exit_code_of(die) == -signal.SIGKILL
        with before_changes(lambda *arguments: None):
            resumed = fit(killed, run, resume="auto")
        assert resumed.complete
        assert resumed.weights_sha256 == straight.weights_sha256
        assert names(killed) == names(straight.folder)
        lines = (killed / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


class Disk:
    """Knows which files and names of a folder a loss of power would leave."""

    def __init__(self) -> None:
        self.files: set[int] = set()
        """The synced files, by inode."""
        self.folders: set[Path] = set()
        """Those with names that are not synced."""
        self.syncs = 0

    def look(self, name: str, *arguments: Any) -> None:
        if name == "fsync":
            self.syncs += 1
            found = os.fstat(arguments[0])
            if stat.S_ISDIR(found.st_mode):
                self.folders = {folder for folder in self.folders if folder.stat().st_ino != found.st_ino}
            else:
                self.files.add(found.st_ino)
        if name == "replace" and Path(arguments[1]).name != "progress.json":  # nothing resumes from that
            source, target = map(Path, arguments[:2])
            assert source.stat().st_ino in self.files, f"{target.name} is named before it is synced"
            self.folders.add(target.parent)


def test_what_is_saved_is_synced_before_the_training_goes_on(tmp_path: Path) -> None:
    disk, saved, left = Disk(), [], []

    class Look(hpcnn.Callback):
        def on_step(self, report: hpcnn.StepReport) -> None:
            left.append(set(disk.folders))
            saved.append(RunFolder(tmp_path / "run").last.exists())

    with before_changes(disk.look):
        fit(tmp_path / "run", EACH_EPOCH, callbacks=[Look()])
    assert True in saved
    assert not any(left)
    assert not disk.folders


def test_a_short_run_syncs_few_times(tmp_path: Path) -> None:
    """Its job and their folder; the best state, the last one and theirs; the model, the result and theirs."""
    disk = Disk()
    with before_changes(disk.look):
        fit(tmp_path / "run", AT_THE_END)
    best, last = (RunFolder(tmp_path / "run").best.stat(), RunFolder(tmp_path / "run").last.stat())
    assert disk.syncs == 8 + (best.st_ino != last.st_ino)
