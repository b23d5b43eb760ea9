"""What importing hpcnn may cost, and that packages export what they say. Who may import whom is in pyproject.toml."""

from __future__ import annotations

import ast
import importlib
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hpcnn"
FILES = sorted(PACKAGE.rglob("*.py"))
LIGHT_LIMIT_S = 0.1


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def seconds(statement: str) -> float:
    """Return how much of a processor a fresh Python takes to run `statement`: a busy machine makes that no longer."""
    code = f"import time; start = time.process_time(); {statement}; print(time.process_time() - start)"
    return float(
        subprocess.run([sys.executable, "-c", code], stdout=-1, check=True, timeout=120, env=os.environ).stdout
    )


@pytest.mark.parametrize("module", ["hpcnn", "hpcnn.bench", "hpcnn.train"])
def test_import_is_light(module: str) -> None:
    # Alternating pairs: what slows the machine for a while slows both of a pair.
    extra = [seconds(f"import numpy, {module}") - seconds("import numpy") for _ in range(7)]
    assert statistics.median(extra) < LIGHT_LIMIT_S


@pytest.mark.parametrize("module", ["hpcnn", "hpcnn.bench", "hpcnn.train", "hpcnn.job", "hpcnn.errors"])
def test_import_brings_in_nothing_heavy(module: str) -> None:
    heavy = (
        "mpi4py",
        "rich",
        "msgspec",
        "safetensors",
        "threadpoolctl",
        "h5py",
        "pyarrow",
        "sklearn",
        "matplotlib",
        "tensorflow",
    )
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == []


@pytest.mark.parametrize("file", [file for file in FILES if file.name == "__init__.py"], ids=module_of)
def test_packages_export_what_they_say(file: Path) -> None:
    package = importlib.import_module(module_of(file))
    exported = getattr(package, "__all__", None)
    if exported is None:
        return
    assert len(exported) == len(set(exported))
    assert [name for name in exported if not hasattr(package, name)] == []
    tree = ast.parse(file.read_text(encoding="utf-8"))
    brought_in = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert brought_in - {"annotations", "TYPE_CHECKING", "Any"} <= set(exported)
