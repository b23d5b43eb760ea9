"""Every command's --help fits a terminal of 80 columns and has an example."""

from __future__ import annotations

import re

import pytest

from hpcnn.__main__ import COMMANDS, main

COMMAND_LINES = [
    [],
    *([name] for name in COMMANDS),
    *(["bench", name] for name in ("allreduce", "network", "step")),
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


def test_a_command_is_found_with_either_dash_and_else_the_nearest_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["lr_find", "--help"])
    assert left.value.code == 0
    with pytest.raises(SystemExit) as left:
        main(["trian"])
    assert left.value.code == 2
    assert "there is no command 'trian'. Did you mean 'train'? See: hpcnn --help" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["qqq"])
    assert "there is no command 'qqq'. See: hpcnn --help" in capsys.readouterr().err


def test_the_overview_says_what_each_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(re.search(rf"\n    {name} +\w+", said) for name in COMMANDS)
