"""Every command's --help fits a terminal of 80 columns and has an example."""

from __future__ import annotations

import re

import pytest

from hpcnn.__main__ import COMMANDS, main

COMMAND_LINES = [
    [],
    *([name] for name in COMMANDS),
    *(["bench", name] for name in ("allreduce", "step")),
    *(["sweep", name] for name in ("args", "collect", "list")),
]


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_help(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(" ".join(["usage: hpcnn", *words]))
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(r"\nexample:\n  .*\bhpcnn\b", said)
