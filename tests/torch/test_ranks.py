"""PyTorch mode under mpirun: the same bits on any number of ranks, for modules of each kind, killed and resumed too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcnn.storage.checkpoint import load_checkpoint
from tests.mpi.launch import ROOT, Mpi
from tests.require import require
from tests.torch.all_modules import LAYERS, MODULES

SHORT = "train.epochs=1"
STEPS = ("run.checkpoint_every_steps=5", "run.checkpoint_gap_s=0")


@pytest.fixture(scope="module")
def folders(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return the folder of the runs of all modules, on one rank and on three."""
    require("torch")
    found = {}
    for ranks in (0, 3):
        out = found[ranks] = tmp_path_factory.mktemp(f"modules-{ranks}")
        done = mpich.run(ranks, "-m", "tests.torch.all_modules", out, SHORT, cwd=out)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return found


def hash_of(run: Path) -> str:
    return str(json.loads((run / "result.json").read_text())["weights_sha256"])


@pytest.mark.parametrize("name", [*MODULES, LAYERS])
def test_the_same_bits_on_one_rank_and_on_three(folders: dict[int, Path], name: str) -> None:
    results = [json.loads((out / name / "result.json").read_text()) for out in folders.values()]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert [result["ranks"] for result in results] == [1, 3]


def test_a_killed_run_goes_on_with_the_same_bits_on_other_ranks(
    mpich: Mpi, folders: dict[int, Path], tmp_path: Path
) -> None:
    """Batch normalisation and dropout: the first half on three ranks, the second on two."""
    command = ("-m", "tests.torch.all_modules", tmp_path, "cnn", SHORT, *STEPS)
    killed = mpich.run(3, *command, cwd=tmp_path, environment={"HPCNN_FAULT": "kill rank=1 step=12"})
    assert killed.returncode != 0
    assert load_checkpoint(tmp_path / "cnn/checkpoints/last.safetensors").facts["progress"]["step"] == 10
    done = mpich.run(2, *command, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert hash_of(tmp_path / "cnn") == hash_of(folders[0] / "cnn")


def test_the_same_bits_from_the_memory_of_a_device(mpich: Mpi, folders: dict[int, Path], tmp_path: Path) -> None:
    """In buckets of 10 kB, which are summed while later gradients are copied."""
    changes = (SHORT, "torch.device=auto", "train.bucket_mb=0.01", "train.optimizer_sharding=true")
    done = mpich.run(2, "-m", "tests.torch.all_modules", tmp_path, "cnn", *changes, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert hash_of(tmp_path / "cnn") == hash_of(folders[0] / "cnn")


def test_sums_by_a_process_group_are_equal_up_to_rounding(mpich: Mpi, folders: dict[int, Path], tmp_path: Path) -> None:
    changes = (SHORT, "torch.comm=distributed")
    done = mpich.run(2, "-m", "tests.torch.all_modules", tmp_path, "mlp", *changes, cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    known, found = (
        load_checkpoint(folder / "mlp/model.safetensors").part("model") for folder in (folders[0], tmp_path)
    )
    assert all(np.allclose(known[name], found[name], atol=1e-5) for name in known)


def test_a_missing_pytorch_is_one_message(mpich: Mpi, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('none', name='torch')")
    command = ("-m", "hpcnn.train", ROOT / "jobs" / "digits_mlp.toml", "--set", "backend=torch")
    done = mpich.run(2, *command, cwd=tmp_path, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "needs the package 'torch', which is not installed" in done.stderr
