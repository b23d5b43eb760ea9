"""The example that continues a text."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import hpcnn

EXAMPLE = Path(__file__).parents[2] / "examples" / "generate_text.py"


def test_a_decoder_continues_what_it_was_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("abcd" * 200)
    job = {
        "data": {"source": "text", "path": str(tmp_path / "text.txt"), "length": 6, "stride": 1},
        "model": {
            "name": "transformer",
            "options": {"kind": "decoder", "layers": 1, "width": 8, "heads": 1, "hidden": 8, "vocabulary": 4},
        },
        "loss": {"name": "sparse_categorical_crossentropy"},
        "optimizer": {"name": "adam", "learning_rate": 0.03},
        "train": {"epochs": 8, "batch_size": 32, "shards": 2},
        "run": {"display": "plain"},
    }
    hpcnn.fit(job, out=tmp_path / "run")
    assert "batches of 32, 4 different characters\n" in capsys.readouterr().out
    runpy.run_path(str(EXAMPLE))["main"](str(tmp_path / "run"), "cd")
    assert capsys.readouterr().out.strip() == "cd" + "abcd" * 50
