"""The table of a sweep: the best first, and what is not done after it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcnn import sweep as command
from hpcnn.errors import JobError
from hpcnn.slurm.collect import collect

Put = Callable[[str, str], Path]


def result(folder: Path, best: dict[str, float], **more: Any) -> None:
    folder.mkdir()
    values = {"loss": 0.25, "confusion_matrix": [[1, 2], [3, 4]]}
    table = {"best": best, "values": values, "epochs": 3, "seconds": 1.5, "weights_sha256": "f00", **more}
    (folder / "result.json").write_text(json.dumps(table))


@pytest.fixture
def sweep(here: Path, put: Put) -> Path:
    """Return a sweep of 6, of which 3 are done, one is running, one was killed, and one has not begun."""
    put(
        "squeue",
        "printf '7_[5%%2]\\037PENDING\\037Priority\\0371\\037\\037\\037\\037hpcnn:%s/s\\037s\\036\\n' \"$PWD\"",
    )
    folder = here / "s"
    folder.mkdir()
    (folder / "sweep.toml").write_text("[values]\noptimizer.learning_rate = [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3]\n")
    for index, loss in ((0, 0.3), (2, 0.1), (3, 0.2)):
        result(folder / str(index), {"val_loss": loss})
    for index in (1, 4):
        (folder / str(index)).mkdir()
        (folder / str(index) / "progress.json").write_text('{"epoch": 1, "values": {"loss": 0.5}}')
    (folder / "4" / "attempts.jsonl").write_text('{"job_id": 9, "event": "end", "exit_code": 1, "time": 1}\n')
    return folder


def test_the_best_comes_first_and_what_is_not_done_last(sweep: Path) -> None:
    rows = collect(sweep)
    assert [(row.index, row.state) for row in rows] == [
        *((2, "done"), (3, "done"), (0, "done")),
        *((1, "stopped"), (4, "failed"), (5, "pending")),
    ]
    assert (rows[0].best, rows[0].monitor, rows[0].epochs, rows[0].weights_sha256) == (0.1, "val_loss", 3, "f00")
    assert (rows[3].best, rows[3].epochs, rows[3].values) == (None, 1, {"loss": 0.5})


def test_of_some_values_more_is_better(sweep: Path) -> None:
    for index, accuracy in ((0, 0.9), (2, 0.8), (3, 0.95)):
        (sweep / str(index) / "result.json").write_text(json.dumps({"best": {"val_accuracy": accuracy}}))
    assert [row.index for row in collect(sweep)][:3] == [3, 0, 2]


@pytest.mark.parametrize("best", [float("nan"), None])
def test_what_has_no_value_is_never_the_best(sweep: Path, best: float | None) -> None:
    (sweep / "2" / "result.json").write_text(json.dumps({"best": {"val_loss": best}}))
    assert [row.index for row in collect(sweep)][:3] == [3, 0, 2]


def test_the_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["collect", str(sweep)]) == 0
    heading, _, best, *others = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert heading == ["#", "learning_rate", "state", "best", "val_loss", "epochs", "loss", "seconds"]
    assert best == ["2", "0.003", "done", "0.1", "3", "0.25", "1.5"]
    assert others[-1] == ["5", "0.006", "pending"]


def test_the_folds_of_a_cross_validation(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mean and deviation of the folds of each setting, as far as they are done; the best mean first."""
    values = '[values]\noptimizer.learning_rate = [1e-3, 2e-3]\ndata.fold = ["1/3", "2/3", "3/3"]\n'
    (sweep / "sweep.toml").write_text(values)
    assert command.main(["collect", str(sweep)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[-4] == ["learning_rate", "folds", "done", "mean", "of", "best", "val_loss", "deviation"]
    assert lines[-2] == ["0.001", "2", "of", "3", "0.2", "0.141421"]  # 0.3 and 0.1
    assert lines[-1] == ["0.002", "1", "of", "3", "0.2"]
    assert command.main(["collect", str(sweep), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["folds"][0]
    assert (first["settings"], first["done"], first["folds"]) == ({"optimizer.learning_rate": 0.001}, 2, 3)
    assert first["mean"] == pytest.approx(0.2)
    assert first["deviation"] == pytest.approx(0.02**0.5)


def test_csv(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["collect", str(sweep), "--csv"]) == 0
    first, *others = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["index"], first["optimizer.learning_rate"], first["best_val_loss"]) == ("2", "0.003", "0.1")
    assert (first["weights_sha256"], len(others), others[-1]["state"]) == ("f00", 5, "pending")


def test_json(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["collect", str(sweep), "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert (runs[0]["settings"], runs[0]["best"]) == ({"optimizer.learning_rate": 0.003}, {"val_loss": 0.1})
    assert runs[0]["values"]["confusion_matrix"] == [[1, 2], [3, 4]]


def test_no_sweep(here: Path) -> None:
    with pytest.raises(JobError, match=r"'none' does not contain a sweep: there is no sweep.toml"):
        collect(Path("none"))
