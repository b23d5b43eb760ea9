"""What is in a wheel and in an sdist: all that an installed hpcnn needs, and nothing that it doesn't."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels.build import variants
from tests.require import require

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.name for path in (ROOT / "jobs").glob("*.toml"))
TEMPLATES = sorted(path.name for path in (ROOT / "slurm").iterdir() if path.name != "site.sh")
MOVED = {f"jobs/{name}": f"hpcnn/jobs/{name}" for name in JOBS} | {
    f"slurm/{name}": f"hpcnn/slurm/templates/{name}" for name in TEMPLATES
}
"""Where in a wheel a file of the checkout lies."""
DATA = ["hpcnn/py.typed", "hpcnn/data/digits.npz", "hpcnn/data/digits.md"]
C_SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "hpcnn/kernels").iterdir()
    if path.suffix in {".c", ".h", ".def", ".txt"}
)
CORE = "hpcnn/kernels/core.abi3.so"


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    """Run Python as if there were no C compiler, and nothing else of the caller's."""
    known = {key: value for key, value in os.environ.items() if key not in {"CC", "CFLAGS", "PYTHONPATH"}}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=known | {"PATH": str(Path(sys.executable).parent)} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
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
def sdist(own_site: None, tmp_path_factory: pytest.TempPathFactory) -> tarfile.TarFile:
    require("scikit_build_core")
    folder = tmp_path_factory.mktemp("sdist")
    code = "import build_backend, sys; build_backend.build_sdist(sys.argv[1])"
    run("-c", code, str(folder), cwd=ROOT, PYTHONPATH=str(ROOT / "scripts"))
    (archive,) = folder.iterdir()
    return tarfile.open(archive)


@pytest.fixture(scope="module")
def wheel_file(sdist: tarfile.TarFile, pytestconfig: pytest.Config) -> Path:
    """The wheel that `make wheel` builds, from the sdist; it is kept for as long as the sdist is the same."""
    for package in ("cmake", "ninja", "ziglang", "auditwheel"):
        require(package)
    assert pytestconfig.cache
    assert sdist.fileobj
    sdist.fileobj.seek(0)
    digest = hashlib.sha256(sdist.fileobj.read()).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir("wheel") / digest
    if not folder.exists():
        for old in folder.parent.iterdir():
            shutil.rmtree(old)
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not in each Python 3.11
        sdist.extractall(folder.with_suffix(".sdist"), **safely)
        (tree,) = folder.with_suffix(".sdist").iterdir()
        run("-m", "scripts.wheel", str(folder), cwd=tree)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


def test_wheel_has_all_modules_and_data(wheel: zipfile.ZipFile) -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in (ROOT / "hpcnn").rglob("*.py")]
    assert len(modules) > 20
    assert len(JOBS) >= 6
    assert {"lib.sh", "train.sbatch", "site.sh.example"} <= set(TEMPLATES)
    assert {*modules, *DATA, *MOVED.values(), CORE} <= set(wheel.namelist())
    assert "hpcnn/slurm/templates/site.sh" not in wheel.namelist(), "it is that of whoever builds"


def test_wheel_has_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0].split("-")[0] for name in wheel.namelist()} == {"hpcnn"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name or "/tests/" in name]
    assert not set(C_SOURCES) & set(wheel.namelist())


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0\n" in metadata
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    assert "hpcnn = hpcnn.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    extras = {line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Provides-Extra")}
    readers, loggers = {"hdf5", "images", "parquet", "remote", "sklearn", "zarr"}, {"mlflow", "tensorboard", "wandb"}
    frameworks = {"keras", "torch"}
    assert extras == readers | loggers | frameworks | {"all", "dev", "docs", "mpi", "onnx", "openmpi", "plot", "wheel"}


def test_wheel_is_for_any_linux_of_the_last_years_and_any_python(wheel_file: Path) -> None:
    """`scripts.wheel` has auditwheel check it."""
    assert wheel_file.name.endswith(f"-cp311-abi3-manylinux_2_28_{platform.machine()}.whl")


def test_installed_wheel_finds_its_core_its_jobs_and_its_data(wheel_file: Path, tmp_path: Path) -> None:
    """Neither a compiler nor the network is there when it is installed."""
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(tmp_path / "site")]
    run(*install, str(wheel_file), cwd=tmp_path, PIP_CONFIG_FILE=os.devnull)
    code = "from hpcnn.job import load_job; print(load_job().path)"
    code += "\nfrom hpcnn.kernels import core; print(core.__file__, core.isa())"
    job, core, isa = run("-c", code, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site")).split()
    assert Path(job) == tmp_path / "site" / "hpcnn" / "jobs" / "digits_mlp.toml"
    assert Path(core) == tmp_path / "site" / CORE
    assert isa == variants()[-1], "the widest that the machine has"


def test_sdist_is_enough_to_build_and_test(sdist: tarfile.TarFile) -> None:
    names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "scripts/venv.sh",
        "scripts/build_backend.py",
        "containers/install.sh",
        "containers/Dockerfile.dockerignore",
        "tests/test_imports.py",
        "tests/kernels/reference.c",
        "hpcnn/kernels/CMakeLists.txt",
    }
    assert needed | MOVED.keys() | set(DATA) | set(C_SOURCES) <= names
    assert not {"slurm/site.sh", CORE} & names
    assert not [name for name in names if name.split("/")[0] in {"build", "runs", ".git"} or name.startswith(".venv")]


def test_the_two_mpis_and_the_two_tensorflows_never_meet() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert "openmpi" not in extras["all"][0]
    assert not [one for one in extras["dev"] if one.startswith(("tensorflow>", "hpcnn[keras", "hpcnn[all"))]
