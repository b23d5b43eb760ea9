"""Paths that can't be looked at, as in a folder of somebody else: one line for each command, and exit code 2."""

from __future__ import annotations

import pytest

from hpcnn.__main__ import main

PATH = "x" * 300
"""A name longer than file systems take: asking for it fails for everybody, root included."""
COMMAND_LINES = [
    "train PATH",
    "train --out PATH",
    "train --resume PATH",
    "evaluate PATH",
    "predict PATH inputs.npy -o outputs.npy",
    "predict run inputs.npy -o PATH",
    "checkpoints PATH",
    "report PATH",
    "report run -o PATH",
    "report run --png PATH",
    "export PATH",
    "export run -o PATH",
    "explain PATH",
    "explain run -o PATH",
    "lr-find PATH",
    "lr-find -o PATH",
    "bench step PATH",
    "bench allreduce --json PATH",
    "bench network --json PATH",
    "predict-scaling PATH",
    "predict-scaling --run PATH",
    "predict-scaling --plot PATH",
    "bench allreduce --plot PATH",
    "submit PATH",
    "submit --out PATH",
    "submit --sweep PATH",
    "sweep list PATH",
    "sweep args PATH 0",
    "sweep collect PATH",
    "status PATH",
    "logs PATH",
    "cancel PATH",
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line.replace("PATH", PATH).split())
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert f"can't look at '{PATH}' (File name too long)" in said
    assert said.count("\n") == 1
