"""Stand-ins for Slurm's programs, for what needs no cluster; what a cluster does is tested on one, in tests/slurm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Return a function that makes a shell script a program; no program of Slurm is found but those."""
    folder = tmp_path_factory.mktemp("programs")
    monkeypatch.setenv("PATH", f"{folder}:/bin")

    def make(name: str, script: str) -> Path:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
        return folder / name

    for name in ("sbatch", "squeue", "scancel", "sacct", "scontrol"):
        make(name, f"echo '{name}: not expected here' >&2; exit 1")
    return make


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, which is the current one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HPCNN_SLURM_DIR", raising=False)
    monkeypatch.delenv("SBATCH_TIMELIMIT", raising=False)
    return folder
