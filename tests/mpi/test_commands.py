"""evaluate and predict: exact, in input order, the same on any number of ranks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hpcnn.data.load import load
from hpcnn.job.data import Digits
from tests.mpi.launch import ROOT, Mpi

JOB = ROOT / "jobs" / "digits_mlp.toml"


@pytest.fixture(scope="module")
def run(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    settings = ("--set", "train.epochs=3", "--set", 'train.metrics=["accuracy", "confusion_matrix", "f1"]')
    done = mpich.run(2, "-m", "hpcnn.train", JOB, *settings, "--out", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    samples = load(Digits(), seed=0, dtype=np.float32, base=Path()).train
    x, y = np.empty((len(samples), 8, 8), np.float32), np.empty(len(samples), np.int64)
    samples.take(np.arange(len(samples)), x, y)
    return x, y


def evaluate(mpi: Mpi, ranks: int, run: Path, *options: str | Path) -> dict[str, object]:
    done = mpi.run(ranks, "-m", "hpcnn.evaluate", run, "--json", *options, cwd=run.parent)
    assert done.returncode == 0, done.stderr
    values: dict[str, object] = json.loads(done.stdout)
    return values


def test_evaluate_is_what_training_said(mpich: Mpi, run: Path) -> None:
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    results = [evaluate(mpich, ranks, run) for ranks in (0, 2, 5)]
    assert results[0] == results[1] == results[2]
    for name in ("loss", "accuracy", "f1", "confusion_matrix"):
        assert results[0][name] == last[f"val_{name}"]
    assert results[0]["samples"] == 359 == np.sum(results[0]["confusion_matrix"])


def test_evaluate_other_data(mpich: Mpi, run: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    x, y = digits
    np.savez(tmp_path / "some.npz", x=x[:100], y=y[:100])
    np.save(tmp_path / "x.npy", x[:100])
    np.save(tmp_path / "y.npy", y[:100])
    one = evaluate(mpich, 3, run, "--data", tmp_path / "some.npz")
    other = evaluate(mpich, 0, run, "--data", f"{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}")
    assert one["samples"] == 100
    assert {k: v for k, v in one.items() if k != "data"} == {k: v for k, v in other.items() if k != "data"}


def test_evaluate_chosen_checkpoint(mpich: Mpi, run: Path) -> None:
    for name, file in (("model", "model.safetensors"), ("best", "checkpoints/best.safetensors")):
        assert str(evaluate(mpich, 0, run, "--checkpoint", name)["checkpoint"]).endswith(file)
    assert evaluate(mpich, 0, run / "model.safetensors") == evaluate(mpich, 0, run)


def test_evaluate_shows_a_table(mpich: Mpi, run: Path) -> None:
    done = mpich.run(2, "-m", "hpcnn", "evaluate", run, cwd=run)
    assert done.returncode == 0, done.stderr
    assert "359 samples: validation data" in done.stdout
    assert "accuracy" in done.stdout
    titles = r"confusion_matrix +rows: true class, columns: predicted class *\n( +\d){10} *\n"
    assert re.search(titles + r"( +\d( +\d+){10} *\n){10}", done.stdout), done.stdout


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_predict(mpich: Mpi, run: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, ending: str) -> None:
    x, y = digits
    if ending == "npy":
        np.save(tmp_path / "in.npy", x)
    else:
        np.savez(tmp_path / "in.npz", x=x)
    files = []
    for ranks in (0, 3, 4):
        out = tmp_path / f"{ranks}.npy"
        done = mpich.run(ranks, "-m", "hpcnn.predict", run, tmp_path / f"in.{ending}", "-o", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "1,797 predictions of shape (10,)" in done.stdout
        files.append(out.read_bytes())
    assert files[0] == files[1] == files[2]
    outputs = np.load(tmp_path / "0.npy", allow_pickle=False)
    assert outputs.shape == (1797, 10)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-6)
    assert np.mean(outputs.argmax(axis=1) == y) > 0.9  # in input order


def test_predict_refuses(mpich: Mpi, run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((3, 7, 7), np.float32))
    for arguments, message in (
        (("in.npy", "-o", "out.npy"), "(7, 7)"),
        (("gone.npy", "-o", "out.npy"), "gone.npy"),
        (("in.npy", "-o", "out.txt"), "must be a .npy file, or a .csv file"),
    ):
        done = mpich.run(2, "-m", "hpcnn.predict", run, *arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "out.npy").exists()


def test_show_prints_once_for_the_ranks_that_were_started(mpich: Mpi, tmp_path: Path) -> None:
    done = mpich.run(3, "-m", "hpcnn.show", JOB, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("memory of a rank in training, 3 ranks:\n") == 1
    assert done.stdout.count("multiply-adds of a step of 64 samples") == 1


def test_a_large_run_begins_with_the_memory_that_it_needs(mpich: Mpi, tmp_path: Path) -> None:
    layers = '[{type="flatten"}, {type="dense", units=40000}, {type="dense", units=10, activation="softmax"}]'
    settings = ("--set", f"model.layers={layers}", "--set", "train.epochs=1", "--set", "train.batch_size=512")
    done = mpich.run(
        2, "-m", "hpcnn.train", JOB, *settings, "--set", "run.stop_at_step=1", "--out", tmp_path / "run", cwd=tmp_path
    )
    assert done.returncode == 75, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("memory: about ")]
    assert re.search(r"^memory: about \d+ MB a rank \(weights 12 MB, gradients 12 MB, optimizer state 12 MB, ", line), (
        line
    )
