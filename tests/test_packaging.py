"""What is in a wheel and in an sdist: all that an installed hpcnn needs, and nothing that it doesn't."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.name for path in (ROOT / "jobs").glob("*.toml"))
TEMPLATES = sorted(path.name for path in (ROOT / "slurm").iterdir() if path.name != "site.sh")
MOVED = {f"jobs/{name}": f"hpcnn/jobs/{name}" for name in JOBS} | {
    f"slurm/{name}": f"hpcnn/slurm/templates/{name}" for name in TEMPLATES
}
"""Where in a wheel a file of the checkout lies."""
DATA = ["hpcnn/py.typed", "hpcnn/data/digits.npz", "hpcnn/data/digits.md"]


def build(function: str, folder: Path) -> Path:
    """Build with hatchling as pip would, in a process of its own since it changes what it imports from."""
    code = f"import sys, hatchling.build as build; print(build.{function}(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module", autouse=True)
def own_site() -> Iterator[None]:
    """Have the file that a user would have made, if there is none."""
    site = ROOT / "slurm" / "site.sh"
    if site.exists():
        yield
        return
    site.touch()
    yield
    site.unlink()


@pytest.fixture(scope="module")
def wheel(own_site: None, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("build_wheel", tmp_path_factory.mktemp("wheel")))


def test_wheel_has_all_modules_and_data(wheel: zipfile.ZipFile) -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / "hpcnn").rglob("*.py")]
    assert len(modules) > 20
    assert len(JOBS) >= 6
    assert {"lib.sh", "train.sbatch", "site.sh.example"} <= set(TEMPLATES)
    assert {*modules, *DATA, *MOVED.values()} <= set(wheel.namelist())
    assert "hpcnn/slurm/templates/site.sh" not in wheel.namelist(), "it is that of whoever builds"


def test_wheel_has_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel.namelist()} == {"hpcnn"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or "/tests/" in name]


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "hpcnn = hpcnn.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    extras = {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")}
    readers, loggers = {"hdf5", "parquet", "sklearn"}, {"mlflow", "tensorboard", "wandb"}
    assert extras == readers | loggers | {"all", "dev", "docs", "keras", "mpi", "onnx", "openmpi", "plot"}


def test_unpacked_wheel_finds_its_jobs_and_data(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "from hpcnn.job import load_job; print(load_job().path)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert Path(done.stdout.strip()) == tmp_path / "site" / "hpcnn" / "jobs" / "digits_mlp.toml"


def test_sdist_is_enough_to_build_and_test(tmp_path: Path) -> None:
    with tarfile.open(build("build_sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "scripts/venv.sh",
        "tests/test_imports.py",
    }
    assert needed | MOVED.keys() | set(DATA) <= names
    assert "slurm/site.sh" not in names
    assert not [name for name in names if name.split("/")[0] in {"runs", ".git"} or name.startswith(".venv")]


def test_the_two_mpis_and_the_two_tensorflows_never_meet() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "openmpi" not in extras["all"][0]
    assert not [one for one in extras["dev"] if one.startswith(("tensorflow>", "hpcnn[keras", "hpcnn[all"))]
