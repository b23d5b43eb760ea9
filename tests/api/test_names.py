"""What the package offers, and the page that says so."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import hpcnn
import hpcnn.nn
from hpcnn.nn.build import LAYERS

OF_EXTRAS = {"keras", "sklearn"}
"""Found as attributes, but not by ``from hpcnn import *``, which must not need their libraries."""


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert "1 ranks, accuracy" in capsys.readouterr().out
    assert names["fitted"].complete
    assert names["trainer"].steps == 20


def test_the_page_lists_all_layers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", page[page.index("The layers are those of") :].partition("\n\n")[0])
    assert sorted(listed) == sorted(layer.__name__ for layer in LAYERS.values())
    assert set(listed) <= set(hpcnn.nn.__all__) == set(dir(hpcnn.nn))


def test_what_the_package_offers() -> None:
    assert set(hpcnn.__all__) <= set(dir(hpcnn))
    assert set(hpcnn.__all__) - {"__version__"} == hpcnn._HOMES.keys() - OF_EXTRAS
    for name in OF_EXTRAS:
        assert getattr(hpcnn, name) is importlib.import_module(f"hpcnn.{name}")
    with pytest.raises(AttributeError, match="module 'hpcnn' has no attribute 'fti'"):
        hpcnn.fti  # noqa: B018
    assert hpcnn.connect() is hpcnn.connect()
