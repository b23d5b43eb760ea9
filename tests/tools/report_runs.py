"""Run folders made by hand, as training leaves them, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

JOB = """name = "{name}"
backend = "numpy"

[data]
source = "digits"

[[model.layers]]
type = "dense"
units = 10
activation = "softmax"

[loss]
name = "sparse_categorical_crossentropy"

[optimizer]
name = "adam"
learning_rate = {rate}

[train]
epochs = {epochs}
metrics = ["accuracy", "confusion_matrix"]

[run]
monitor = ""
"""
SHA256 = "36fd619f605ea6a9017afe02ed419ec5ce4cd7c6fc6149c05a9cac42a4269660"


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def epoch_line(epoch: int, *, loss: float) -> dict[str, Any]:
    """Return what training writes after an epoch; validation has two mistakes of class 1 for class 0."""
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "learning_rate": 0.003,
        "loss": loss,
        "accuracy": 1 - loss / 2,
        "confusion_matrix": [[40.0, 0.0], [1.0, 39.0]],
        "val_loss": loss + 0.1,
        "val_accuracy": 0.9 - loss / 2,
        "val_confusion_matrix": [[10.0, 0.0], [2.0, 8.0]],
        "seconds": 0.1,
        "samples_per_s": 1000.0 + epoch,
    }


def time_line(epoch: int, hosts: Sequence[str], *, slow: int | None = None) -> dict[str, Any]:
    """Return a line of time.jsonl: each rank computes 2 s and reduces 1 s; the others wait 4 s for a slow one."""
    ranks = range(len(hosts))
    forward = [5.0 if rank == slow else 1.0 for rank in ranks]
    wait = [0.0 if slow in (None, rank) else 4.0 for rank in ranks]
    phases = {"forward": forward, "backward": [1.0 for _ in ranks], "wait": wait, "reduce": [1.0 for _ in ranks]}
    return {"epoch": epoch, "step": 10 * epoch, "hosts": list(hosts), "seconds": phases}


def make_run(
    folder: Path, *, epochs: int = 5, rate: float = 0.003, loss: float = 1.0, sha256: str = SHA256, name: str = "toy"
) -> Path:
    """Write a run that is done; its best value is ``loss / epochs + 0.1``."""
    folder.mkdir(parents=True)
    (folder / "job.toml").write_text(JOB.format(name=name, rate=rate, epochs=epochs), encoding="utf-8")
    lines = [epoch_line(epoch, loss=loss / epoch) for epoch in range(1, epochs + 1)]
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "time.jsonl", [time_line(2, ["n1", "n1", "n2"]), time_line(epochs, ["n1", "n1", "n2"])])
    result = {
        "weights_sha256": sha256,
        "epochs": epochs,
        "epochs_asked": epochs,
        "steps": 10 * epochs,
        "best": {"val_loss": loss / epochs + 0.1},
        "values": {"loss": loss / epochs},
        "seconds": 4.2,
        "ranks": 3,
        "shards": 8,
        "hpcnn": "0.1.0",
        "machine": {"numpy": "2.4.6", "kernel": "SkylakeX"},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder
