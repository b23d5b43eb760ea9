"""The commands in Keras mode under mpirun: every job, the same bits on 1 to 4 ranks, a kill and a resume included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpcnn.data.load import load
from hpcnn.job.load import load_job
from hpcnn.storage.checkpoint import load_checkpoint
from tests.keras.all_jobs import DIGITS, DIGITS_EPOCHS, JOBS
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.test_jobs import last_values, write_mnist

COMMAND = (
    "-m",
    "hpcnn.train",
    ROOT / "jobs" / "digits_mlp.toml",
    "--quiet",
    "--set",
    "backend=keras",
    "--set",
    f"train.epochs={DIGITS_EPOCHS}",
)


@pytest.fixture(scope="module")
def all_jobs(tensorflow_environment: Mpi, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Return the folder of the runs of all jobs, on one rank and on three."""
    folders = {}
    for ranks in (0, 3):
        out = folders[ranks] = tmp_path_factory.mktemp(f"jobs-{ranks}")
        write_mnist(out / "mnist")
        done = tensorflow_environment.run(ranks, "-m", "tests.keras.all_jobs", out, cwd=out)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return folders


@pytest.fixture(scope="module")
def on_one_rank(all_jobs: dict[int, Path]) -> Path:
    """Return the folder of the digits' run on one rank."""
    return all_jobs[0] / DIGITS


def hash_of(run: Path) -> str:
    return str(json.loads((run / "result.json").read_text())["weights_sha256"])


def test_digits_reach_97_percent(on_one_rank: Path) -> None:
    assert last_values(on_one_rank)["val_accuracy"] >= 0.97


def test_a_killed_run_goes_on_with_the_same_bits_on_other_ranks(
    tensorflow_environment: Mpi, on_one_rank: Path, tmp_path: Path
) -> None:
    """The first half on four ranks, the second on two: with other bits on either, the hash would be another."""
    out = tmp_path / "run"
    steps = ("--set", "run.checkpoint_every_steps=50")
    fault = {"HPCNN_FAULT": "kill rank=1 step=222"}
    killed = tensorflow_environment.run(4, *COMMAND, *steps, "--out", out, cwd=tmp_path, environment=fault)
    assert killed.returncode != 0
    assert not (out / "model.safetensors").exists()
    saved = load_checkpoint(out / "checkpoints" / "last.safetensors").facts["progress"]["step"]
    assert 200 <= saved < 222
    done = tensorflow_environment.run(2, *COMMAND, "--out", out, "--resume", "auto", cwd=tmp_path)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert sha256_of(done.stdout) == hash_of(on_one_rank)


def test_commands_in_either_mode(tensorflow_environment: Mpi, on_one_rank: Path, tmp_path: Path) -> None:
    values = []
    for backend in ("numpy", "keras"):
        evaluate = ("-m", "hpcnn.evaluate", on_one_rank, "--json", "--backend", backend)
        done = tensorflow_environment.run(0, *evaluate, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        values.append(json.loads(done.stdout))
    assert values[0]["accuracy"] == values[1]["accuracy"] >= 0.97
    assert values[0]["loss"] == pytest.approx(values[1]["loss"], rel=1e-5)
    x = np.random.default_rng(0).uniform(0, 16, (100, 8, 8))
    np.save(tmp_path / "x.npy", x)
    predict = ("-m", "hpcnn.predict", on_one_rank, "x.npy", "-o", "y.npy")
    done = tensorflow_environment.run(2, *predict, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy").sum(axis=1), 1, rtol=1e-5)


RUNS = [*(job.stem for job in JOBS), DIGITS]


@pytest.mark.parametrize("run", RUNS)
def test_every_job_on_one_rank_and_on_three(all_jobs: dict[int, Path], run: str) -> None:
    results = [json.loads((out / run / "result.json").read_text()) for out in all_jobs.values()]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    assert [result["ranks"] for result in results] == [1, 3]
    lines = (all_jobs[3] / run / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < losses[0]


@pytest.fixture(scope="module")
def by_horovod(newest_horovod: Mpi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the runs of all jobs on two ranks whose gradients Horovod adds."""
    out = tmp_path_factory.mktemp("horovod")
    write_mnist(out / "mnist")
    command = ("-m", "tests.keras.all_jobs", out, "keras.comm=horovod")
    done = newest_horovod.run(2, *command, cwd=out)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return out


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_every_job_with_horovod(by_horovod: Path, all_jobs: dict[int, Path], job: Path) -> None:
    """The ranks end alike, or the run would have failed."""
    weights, exact = (
        load_checkpoint(out / job.stem / "model.safetensors").part("model") for out in (by_horovod, all_jobs[0])
    )
    for name, array in exact.items():
        np.testing.assert_allclose(weights[name], array, rtol=1e-6, atol=1e-6)


def test_linear_regression_finds_the_least_squares_line(all_jobs: dict[int, Path]) -> None:
    weights = load_checkpoint(all_jobs[3] / "linear_regression" / "model.safetensors").part("model")
    found = [float(weights["dense_1/kernel"][0, 0]), float(weights["dense_1/bias"][0])]
    job = load_job(ROOT / "jobs" / "linear_regression.toml").job
    data = load(job.data, seed=0, dtype=np.float64, base=Path()).train
    x, y = np.empty((len(data), 1)), np.empty((len(data), 1))
    data.take(np.arange(len(data)), x, y.reshape(-1, *data.y.shape[1:]))
    solution, *_ = np.linalg.lstsq(np.hstack([x, np.ones_like(x)]), y[:, 0], rcond=None)
    np.testing.assert_allclose(found, solution, atol=0.01)


def test_a_missing_tensorflow_is_one_message(tensorflow_environment: Mpi, tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ModuleNotFoundError('none', name='tensorflow')")
    done = tensorflow_environment.run(2, *COMMAND, cwd=tmp_path, environment={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "needs the package 'tensorflow', which is not installed" in done.stderr
