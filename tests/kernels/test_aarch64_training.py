"""A whole training on AArch64, by an emulator: the same SHA-256 as on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnn.job.dump import resolved_toml
from tests.kernels.build import EMULATOR
from tests.require import missing
from tests.small_jobs import make_job

ROOT = Path(__file__).parents[2]
PREFIX = "HPCNN_AARCH64_PREFIX"


@pytest.fixture(scope="module")
def emulated(core_of_aarch64: Path, tmp_path_factory) -> list[str]:
    """The command and the environment of Python on AArch64, with hpcnn and its core."""
    prefix = Path(os.environ.get(PREFIX, "/nonexistent"))
    if not (prefix / "site").exists():
        missing(f"there is no Python for AArch64 in {prefix}; {PREFIX} names its folder")
    package = tmp_path_factory.mktemp("aarch64") / "hpcnn"
    ignored = shutil.ignore_patterns("*.c", "*.h", "*.def", "CMakeLists.txt", "*.so", "__pycache__")
    shutil.copytree(ROOT / "hpcnn", package, ignore=ignored)
    shutil.copy(core_of_aarch64 / "core.abi3.so", package / "kernels")
    (python,) = (path for path in (prefix / "root/usr/bin").glob("python3.*") if path.name[8:].isdigit())
    environment = f"PYTHONPATH={package.parent}{os.pathsep}{prefix / 'site'}"
    return [EMULATOR, "-L", str(prefix / "root"), "-E", environment, str(python)]


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def trained(python: list[str], job: Path, out: Path, **environment: str) -> str:
    """Return the SHA-256 of the weights after two epochs."""
    out.mkdir()
    output = run(*python, "-m", "hpcnn.train", job, "--set", "train.epochs=2", cwd=out, **environment)
    (line,) = (line for line in output.splitlines() if line.startswith("weights sha256 "))
    return line.split()[-1]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(resolved_toml(make_job()))
    return path


NETWORK = [
    {"type": "reshape", "shape": [5, 1]},
    {"type": "conv1d", "filters": 4, "kernel_size": 3, "padding": "same", "activation": "gelu"},
    {"type": "batch_normalization", "momentum": 0.75},
    {"type": "max_pooling", "pool_size": 2, "padding": "same"},
    {"type": "residual", "layers": [{"type": "multi_head_attention", "num_heads": 2, "key_dim": 2, "causal": True}]},
    {"type": "group_normalization", "groups": 2},
    {"type": "lstm", "units": 4},
    {"type": "dense", "units": 3, "activation": "softmax"},
]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "network.toml"
    path.write_text(resolved_toml(make_job(model={"layers": NETWORK})))
    return path


@pytest.mark.parametrize("job", ["digits_mlp", "binary_nesterov", "sigmoid_net"])
def test_job_ends_with_the_same_hash_on_aarch64(emulated, tmp_path, job) -> None:
    path = ROOT / "jobs" / f"{job}.toml"
    here = trained([sys.executable], path, tmp_path / "here", PYTHONPATH=str(ROOT))
    assert trained(emulated, path, tmp_path / "there") == here


@pytest.mark.parametrize("isa", ["neon", "scalar"])
def test_layers_of_all_kinds_end_with_the_same_hash_on_aarch64(emulated, small, tmp_path, isa) -> None:
    here = trained([sys.executable], small, tmp_path / "here", PYTHONPATH=str(ROOT))
    assert trained(emulated, small, tmp_path / "there", HPCNN_ISA=isa) == here


def test_convolution_statistics_attention_and_recurrence_end_with_the_same_hash_on_aarch64(
    emulated, network, tmp_path
) -> None:
    here = trained([sys.executable], network, tmp_path / "here", PYTHONPATH=str(ROOT))
    assert trained(emulated, network, tmp_path / "there") == here
