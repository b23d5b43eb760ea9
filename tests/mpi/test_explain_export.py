"""lr-find, explain and export on real ranks: the same result on any number of them, and one line for a fault."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.mpi.launch import ROOT, Mpi

JOB = ROOT / "jobs" / "digits_mlp.toml"


@pytest.fixture(scope="module")
def run(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done = mpich.run(0, "-m", "hpcnn.train", JOB, "--set", "train.epochs=2", "--out", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_lr_find(mpich: Mpi, tmp_path: Path) -> None:
    said = []
    for ranks in (0, 2):
        done = mpich.run(ranks, "-m", "hpcnn.lr_find", JOB, "--steps", "100", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said.append(json.loads(done.stdout))
    assert said[0] == said[1]
    assert 1e-4 < said[0]["suggested"] < 2e-2


def test_lr_find_finds_nothing(mpich: Mpi, tmp_path: Path) -> None:
    options = ("--from", "1e-12", "--to", "1e-10", "--steps", "20", "--set", "train.seed=1")  # chance falls for 1 in 15
    done = mpich.run(0, "-m", "hpcnn", "lr-find", JOB, *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1].startswith("no suggestion: the loss does not fall")


def test_explain(mpich: Mpi, run: Path, tmp_path: Path) -> None:
    said = []
    for ranks, options in ((0, ()), (2, ("-o", tmp_path))):
        done = mpich.run(ranks, "-m", "hpcnn.explain", run, "--rows", "2:7", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.splitlines())
    assert said[0][0] == "integrated-gradients of digits_mlp: validation data"
    assert said[1][:-1] == said[0]
    assert said[1][-1].startswith(f"written to {tmp_path}: integrated_gradients.csv")
    assert len((tmp_path / "integrated_gradients.csv").read_text().splitlines()) == 6


def test_explain_refuses(mpich: Mpi, run: Path, tmp_path: Path) -> None:
    done = mpich.run(0, "-m", "hpcnn.explain", run, "--target", "10", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--target 10: the model's outputs are 0 to 9" in done.stderr


def test_export(mpich: Mpi, run: Path, tmp_path: Path) -> None:
    done = mpich.run(2, "-m", "hpcnn.export", run, "-o", tmp_path / "digits.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("weights sha256 ")
    with np.load(tmp_path / "digits.npz", allow_pickle=False) as archive:
        assert archive["dense_1/kernel"].shape == (64, 128)
