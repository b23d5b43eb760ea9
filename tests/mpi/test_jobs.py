"""Every job in jobs/ runs, and does what its comments promise. MNIST's files are small ones in the real format."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hpcnn.data.load import load
from hpcnn.job.data import Digits
from hpcnn.job.load import load_job
from hpcnn.storage.checkpoint import load_checkpoint
from tests.mpi.launch import ROOT, Mpi, finish, sha256_of
from tests.quick_jobs import QUICK, changes_of
from tests.require import require
from tests.timing import wait_until

JOBS = {path.name: path for path in sorted((ROOT / "jobs").glob("*.toml"))}
OF_HPCNN = {name: path for name, path in JOBS.items() if load_job(path).job.backend == "numpy"}
"""Those that need no other library."""
SHORTENED = {  # epochs, where all of them would take long
    "sigmoid_net.toml": 100,
    "binary_nesterov.toml": 20,
}
MNIST = ("mnist_mlp.toml", "mnist_functional.toml")
MNIST_SEED = 1
"""After 60 steps the accuracy of `mnist_mlp.toml` on these few images is 0.845 +- 0.018; with seed 0, 0.78."""


def write_mnist(folder: Path) -> None:
    """Write the digits, 28 x 28 with each pixel three times as wide, as the four files of MNIST."""
    samples = load(Digits(), seed=0, dtype=np.float32, base=Path()).train
    x, y = np.empty((len(samples), 8, 8), np.float32), np.empty(len(samples), np.int64)
    samples.take(np.arange(len(samples)), x, y)
    images = np.pad(np.kron(x * 255 / 16, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    folder.mkdir(parents=True)
    for name, chosen in (("train", slice(0, 1500)), ("t10k", slice(1500, None))):
        part, labels = images[chosen], y[chosen].astype(np.uint8)
        head = struct.pack(">4I", 0x803, len(part), 28, 28)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + part.tobytes(), 1))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, len(labels)) + labels.tobytes())


def train(mpi: Mpi, ranks: int, job: str, cwd: Path, *options: str) -> tuple[str, Path]:
    """Return the hash and the run folder."""
    if job in MNIST:
        if not (cwd / "mnist").exists():
            write_mnist(cwd / "mnist")
        options = ("--set", f"data.folder={cwd / 'mnist'}", "--set", f"train.seed={MNIST_SEED}", *options)
    for change in changes_of(Path(job).stem, cwd):
        options = ("--set", change, *options)
    if job in SHORTENED:
        options = ("--set", f"train.epochs={SHORTENED[job]}", *options)
    out = cwd / f"{job}-{ranks}"
    done = mpi.run(ranks, "-m", "hpcnn.train", JOBS[job], *options, "--out", out, cwd=cwd)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return sha256_of(done.stdout), out


def last_values(run: Path) -> dict[str, float]:
    values: dict[str, float] = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    return values


Trained = Callable[[str, int], tuple[str, Path]]


@pytest.fixture(scope="module")
def trained(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return what returns the hash and the run folder of a job on a number of ranks, each trained once."""
    folder = tmp_path_factory.mktemp("jobs")
    return cache(lambda job, ranks: train(mpich, ranks, job, folder))


@pytest.mark.parametrize("job", JOBS)
def test_the_same_bits_on_one_rank_and_on_three(trained: Trained, job: str) -> None:
    if job not in OF_HPCNN:
        require("torch")
    assert trained(job, 0)[0] == trained(job, 3)[0]


def test_each_job_fixes_its_shards_and_has_comments() -> None:
    assert len(JOBS) >= 6
    for path in JOBS.values():
        assert isinstance(load_job(path).job.train.shards, int), path
        assert path.read_text().startswith("# "), path


def test_digits_reach_97_percent(trained: Trained) -> None:
    _, run = trained("digits_mlp.toml", 3)
    assert last_values(run)["val_accuracy"] >= 0.97


def test_linear_regression_finds_the_least_squares_line(trained: Trained) -> None:
    """Slope 1.5, intercept 0.8 plus the noise's mean of 0.5, to within the least-squares solution's own error."""
    _, run = trained("linear_regression.toml", 3)
    weights = load_checkpoint(run / "model.safetensors").part("model")
    slope, intercept = float(weights["dense_1/kernel"][0, 0]), float(weights["dense_1/bias"][0])

    data = load(load_job(JOBS["linear_regression.toml"]).job.data, seed=0, dtype=np.float64, base=Path()).train
    x, y = np.empty((len(data), 1)), np.empty(len(data))
    data.take(np.arange(len(data)), x, y.reshape(data.y.shape))
    design = np.hstack([x, np.ones_like(x)])
    solution, (residual,), *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = residual / (len(y) - 2)
    error = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    assert abs(slope - 1.5) < abs(solution[0] - 1.5) + error[0] / 100
    assert abs(intercept - 1.3) < abs(solution[1] - 1.3) + error[1] / 100
    np.testing.assert_allclose([slope, intercept], solution, atol=0.01)


def test_mnist_jobs_learn(trained: Trained) -> None:
    for job in MNIST:
        _, run = trained(job, 3)
        assert last_values(run)["val_accuracy"] > 0.8


@pytest.mark.parametrize("job", MNIST)
def test_mnist_jobs_say_which_files_are_missing(mpich: Mpi, tmp_path: Path, job: str) -> None:
    done = mpich.run(2, "-m", "hpcnn.train", JOBS[job], "--set", "data.folder=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    for name in (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        assert name in done.stderr
    assert ".gz" in done.stderr
    assert "nowhere" in done.stderr


@pytest.mark.parametrize("job", ["sigmoid_net.toml", "binary_nesterov.toml", *(f"{name}.toml" for name in QUICK)])
def test_the_loss_falls(trained: Trained, job: str) -> None:
    _, run = trained(job, 0)
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]


def test_a_small_convolutional_network_reads_digits(trained: Trained) -> None:
    """After 3 of its 40 epochs."""
    _, run = trained("digits_cnn.toml", 0)
    assert last_values(run)["val_accuracy"] >= 0.97


def test_the_default_job_is_the_digits(mpich: Mpi, tmp_path: Path) -> None:
    one = mpich.run(0, "-m", "hpcnn.train", "--quiet", "--set", "train.epochs=1", cwd=tmp_path)
    path = str(JOBS["digits_mlp.toml"])
    other = mpich.run(0, "-m", "hpcnn.train", path, "--quiet", "--set", "train.epochs=1", cwd=tmp_path)
    assert sha256_of(one.stdout) == sha256_of(other.stdout)
    assert re.search(r'name = "digits_mlp"', (tmp_path / "runs" / "digits_mlp" / "job.toml").read_text())


def test_several_jobs_at_once_do_not_share_a_folder(mpich: Mpi, tmp_path: Path) -> None:
    """Each gets one of its own; one that is killed is gone on with at once, by what it says itself."""
    words = ("-m", "hpcnn.train", "--quiet", "--set", "train.epochs=2")
    jobs = [mpich.start(ranks, *words, cwd=tmp_path) for ranks in (0, 0, 2)]
    hashes = [sha256_of(finish(job).stdout) for job in jobs]
    folders = [tmp_path / "runs" / name for name in ("digits_mlp", "digits_mlp-2", "digits_mlp-3")]
    assert len(hashes) == 3
    assert sorted(tmp_path.glob("runs/*")) == folders
    assert [len((folder / "metrics.jsonl").read_text().splitlines()) for folder in folders] == [2, 2, 2]
    killed = mpich.start(0, *words[:3], "--set", "train.epochs=100000", "--out", "killed", cwd=tmp_path)
    try:
        wait_until((tmp_path / "killed" / "checkpoints" / "last.safetensors").exists)
        beside = mpich.run(0, "-m", "hpcnn.train", "--resume", "killed", cwd=tmp_path)
    finally:
        killed.kill()
        finish(killed)
    assert beside.returncode == 2
    assert beside.stderr.count("\n") == 1
    assert f"'killed' is being trained by process {killed.pid} on " in beside.stderr
    stop = ("--resume", "auto", "--set", "run.max_minutes=0.001")
    went_on = mpich.run(2, "-m", "hpcnn.train", "--out", "killed", *stop, cwd=tmp_path)
    assert went_on.returncode == 75, went_on.stderr
    assert "sign of life" not in went_on.stdout
    assert not (tmp_path / "killed" / "lease").exists()


def test_a_model_of_ones_own(mpich: Mpi, tmp_path: Path) -> None:
    """`model.entry`, with the user's module in the working folder, also through the `hpcnn` command."""
    (tmp_path / "my_models.py").write_text(
        "from hpcnn.nn import Dense, Flatten, Network\n"
        "def two_layers(input_shape, width):\n"
        "    layers = [Flatten(), Dense(width, activation='tanh', name='hidden'), Dense(10)]\n"
        "    return Network(layers, input_shape, head='softmax')\n"
    )
    table = "model={entry='my_models:two_layers', options={width=24}}"
    console_script = tmp_path / "bin" / "hpcnn"  # runs with its own folder on the path, not the working folder
    console_script.parent.mkdir()
    console_script.write_text("import sys\nfrom hpcnn.__main__ import main\nsys.exit(main())\n")
    for ranks, command in ((0, ("-m", "hpcnn.train")), (2, (console_script, "train"))):
        options = ("--set", table, "--set", "train.epochs=2", "--out", str(ranks))
        done = mpich.run(ranks, *command, JOBS["digits_mlp.toml"], *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / out / "result.json").read_text()) for out in ("0", "2")]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]
    evaluate = ("-m", "hpcnn.evaluate", "2", "--json")
    refused = mpich.run(0, *evaluate, cwd=tmp_path)
    assert refused.returncode == 2
    assert "name it: --entry my_models:two_layers" in refused.stderr
    evaluated = mpich.run(2, *evaluate, "--entry", "my_models:two_layers", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
