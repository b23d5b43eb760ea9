"""PyTorch on a GPU: the calls of CUDA that no other machine can make. Skipped where PyTorch sees none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcnn.storage.checkpoint import load_checkpoint
from tests.mpi.launch import ROOT, Mpi
from tests.require import require


@pytest.fixture(autouse=True, scope="module")
def gpu() -> None:
    """Hardware that is not there is no missing component, so HPCNN_REQUIRE_ALL=1 does not make it a failure."""
    torch = require("torch")
    if not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} sees no GPU on this machine")


def digits(mpi: Mpi, ranks: int, out: Path, *settings: str) -> Path:
    """Return the folder of a short training of the digits' convolutions, batch normalisation and dropout."""
    changes = [part for one in ("train.epochs=2", "run.display=quiet", *settings) for part in ("--set", one)]
    done = mpi.run(ranks, "-m", "hpcnn.train", ROOT / "jobs" / "digits_torch.toml", "--out", out, *changes, cwd=ROOT)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return out


def hash_of(run: Path) -> str:
    return str(json.loads((run / "result.json").read_text())["weights_sha256"])


@pytest.fixture(scope="module")
def alone(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits(mpich, 0, tmp_path_factory.mktemp("gpu") / "alone", "torch.device=cuda")


@pytest.mark.parametrize("settings", [(), ("train.bucket_mb=0.01",)])
def test_the_same_bits_on_two_ranks(mpich: Mpi, alone: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Which share the GPU, where there is but one."""
    assert hash_of(digits(mpich, 2, tmp_path / "two", "torch.device=cuda", *settings)) == hash_of(alone)


def test_weights_near_those_of_the_cpu(mpich: Mpi, alone: Path, tmp_path: Path) -> None:
    """Without dropout, of which GPUs draw other numbers."""
    plain = "model.options={dropout=0.0}"
    runs = [digits(mpich, 0, tmp_path / name, f"torch.device={name}", plain) for name in ("cpu", "cuda")]
    cpu, cuda = (load_checkpoint(run / "model.safetensors").part("model") for run in runs)
    assert all(np.allclose(cpu[name], cuda[name], atol=1e-3) for name in cpu)


def test_sums_by_nccl(mpich: Mpi, alone: Path, tmp_path: Path) -> None:
    """On one rank, since NCCL needs a GPU for each: then the sum is exact."""
    assert hash_of(digits(mpich, 0, tmp_path / "nccl", "torch.device=cuda", "torch.comm=distributed")) == hash_of(alone)


def test_gradients_of_scripts(mpich: Mpi, tmp_path: Path) -> None:
    done = mpich.run(2, "-m", "tests.torch.scripts.on_gpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 checks passed on 2 ranks" in done.stdout
