"""The promise: one job file, one SHA-256 of the weights, on any number of ranks, under either MPI, resumed anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hpcnn.comm.waiting import SLEEPS
from tests.mpi.launch import ROOT, Mpi, sha256_of
from tests.mpi.rank_server import RankServer
from tests.mpi.served_training import train

TRAIN = ("-m", "hpcnn.train")
JOB = ROOT / "jobs" / "digits_mlp.toml"
SHORT = ["train.epochs=4"]
STOPPED = 75


def train_short(server: RankServer, ranks: int, cwd: Path, *settings: str, **options: Any) -> str:
    """Train the short job on ranks that run already, and return what they print."""
    return train(server, ranks, JOB, *SHORT, *settings, cwd=cwd, **options)


@pytest.fixture(scope="module")
def reference(mpich: Mpi, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the short job on one rank, without mpirun, by the command."""
    options = [word for setting in SHORT for word in ("--set", setting)]
    done = mpich.run(0, *TRAIN, JOB, "--quiet", *options, cwd=tmp_path_factory.mktemp("reference"))
    assert done.returncode == 0, done.stderr
    return sha256_of(done.stdout)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 5, 7, 8])
def test_any_number_of_ranks(ranks_of_mpich: RankServer, ranks: int, tmp_path: Path, reference: str) -> None:
    assert sha256_of(train_short(ranks_of_mpich, ranks, tmp_path)) == reference


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_open_mpi(ranks_of_open_mpi: RankServer, ranks: int, tmp_path: Path, reference: str) -> None:
    assert sha256_of(train_short(ranks_of_open_mpi, ranks, tmp_path)) == reference


def test_the_command_under_each_mpi(mpi: Mpi, tmp_path: Path, reference: str) -> None:
    """A launch of its own, and busy waiting, as users have it; other launches are in other modules."""
    options = [word for setting in SHORT for word in ("--set", setting)]
    done = mpi.run(3, *TRAIN, JOB, "--quiet", *options, cwd=tmp_path, environment={SLEEPS: "0"})
    assert done.returncode == 0, done.stderr
    assert sha256_of(done.stdout) == reference


VARIANTS = {
    "no dropout": ["model.layers.2.rate=0.0", "model.layers.4.rate=0.0"],
    "other shards, uneven batches": ["train.shards=12", "train.batch_size=50", "run.noise_scale_every=2"],
    "automatic shards": ["train.shards="],
    "automatic shards of a full batch": ["train.shards=auto", "train.batch_size=full"],
    "batches smaller than the shards": ["train.shards=16", "train.batch_size=10", "train.epochs=1"],
    "float64, clipping, penalties": [
        "train.dtype=float64",
        "optimizer.clip_norm=0.5",
        "model.layers.1.kernel_l2=0.001",
        "model.layers.3.kernel_l1=0.0001",
        "run.noise_scale_every=3",
    ],
    "balanced classes, early stopping, plateau": [
        "loss.class_weights=balanced",
        "train.early_stopping.patience=1",
        "train.reduce_on_plateau.patience=1",
        'train.metrics=["accuracy", "f1", "confusion_matrix", "top_k_accuracy"]',
    ],
    "NumPy": ["train.arithmetic=numpy", "run.noise_scale_every=3"],
    "NumPy, automatic shards, full batches": ["train.arithmetic=numpy", "train.shards=auto", "train.batch_size=full"],
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants(ranks_of_mpich: RankServer, tmp_path: Path, settings: list[str]) -> None:
    folders = {ranks: tmp_path / str(ranks) for ranks in (0, 3, 4)}
    server = ranks_of_mpich
    hashes = {sha256_of(train_short(server, ranks, tmp_path, *settings, out=out)) for ranks, out in folders.items()}
    assert len(hashes) == 1
    # Not the weights alone: every value that was shown and that steered the run.
    lines = [(out / "metrics.jsonl").read_text().splitlines() for out in folders.values()]
    timings = ("seconds", "samples_per_s")
    values = [[{k: v for k, v in json.loads(line).items() if k not in timings} for line in own] for own in lines]
    assert values[0] == values[1] == values[2]


@pytest.mark.parametrize(("step", "ranks"), [(1, (4, 2, 3)), (23, (3, 5, 2)), (40, (0, 7, 0)), (91, (2, 0, 4))])
def test_stop_and_go_on_with_other_ranks(
    ranks_of_mpich: RankServer, tmp_path: Path, reference: str, step: int, ranks: tuple[int, int, int]
) -> None:
    server, out = ranks_of_mpich, tmp_path / "run"
    first, second, third = ranks
    stopped = train_short(server, first, tmp_path, f"run.stop_at_step={step}", out=out, expect=STOPPED)
    assert f"after step {step} " in stopped
    later = step + 1
    train_short(server, second, tmp_path, f"run.stop_at_step={later}", out=out, resume="auto", expect=STOPPED)
    assert sha256_of(train_short(server, third, tmp_path, out=out, resume="auto")) == reference
    epochs = [json.loads(line)["epoch"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]


FOR_SPEED = {
    "sharded": (["train.optimizer_sharding=true"], {}),
    "not sharded": (["train.optimizer_sharding=false"], {}),
    "sharded, in buckets": (["train.optimizer_sharding=true", "train.bucket_mb=0.01"], {}),
    "not sharded, in buckets": (["train.optimizer_sharding=false", "train.bucket_mb=0.02"], {}),
    "sharded, no shared memory": (["train.optimizer_sharding=true"], {"HPCNN_SHARED_MEMORY": "off"}),
    "not sharded, no shared memory": (["train.optimizer_sharding=false"], {"HPCNN_SHARED_MEMORY": "off"}),
    "sharded, by halving": (
        ["train.optimizer_sharding=true"],
        {"HPCNN_SHARED_MEMORY": "off", "HPCNN_EXCHANGE": "halving"},
    ),
    "in buckets, by halving": (
        ["train.optimizer_sharding=false", "train.bucket_mb=0.02"],
        {"HPCNN_SHARED_MEMORY": "off", "HPCNN_EXCHANGE": "halving"},
    ),
    "directly on a slow network": (
        ["train.optimizer_sharding=false"],
        {"HPCNN_SHARED_MEMORY": "off", "HPCNN_NETWORK": "1us,1Mb/s"},
    ),
    "activations computed again": (["train.checkpoint_activations=true"], {}),
    "recorded": (["run.timeline=true", "run.timeline_steps=40"], {}),
    "noise scale": (["run.noise_scale_every=1", "train.optimizer_sharding=true", "train.bucket_mb=0.01"], {}),
    "logged": (['run.loggers=["csv", "tensorboard"]'], {}),
}


@pytest.mark.parametrize(("settings", "environment"), FOR_SPEED.values(), ids=FOR_SPEED.keys())
def test_what_only_makes_it_fast(
    ranks_of_mpich: RankServer, tmp_path: Path, reference: str, settings: list[str], environment: dict[str, str]
) -> None:
    assert sha256_of(train_short(ranks_of_mpich, 3, tmp_path, *settings, environment=environment)) == reference


def test_the_critical_batch_is_said_at_the_end(ranks_of_mpich: RankServer, tmp_path: Path) -> None:
    said = train_short(ranks_of_mpich, 2, tmp_path, "run.noise_scale_every=10", "run.display=plain")
    assert re.search(r"^ critical batch +about [\d,]+ samples: .*the batch of 64", said, re.MULTILINE)
    assert "noise_scale" not in said


def test_a_checkpoint_serves_sharded_and_whole(ranks_of_mpich: RankServer, tmp_path: Path, reference: str) -> None:
    server, out = ranks_of_mpich, tmp_path / "run"
    sharded, whole = (f"train.optimizer_sharding={value}" for value in ("true", "false"))
    train_short(server, 3, tmp_path, sharded, "run.stop_at_step=30", out=out, expect=STOPPED)
    train_short(server, 4, tmp_path, whole, "run.stop_at_step=50", out=out, resume="auto", expect=STOPPED)
    assert sha256_of(train_short(server, 2, tmp_path, sharded, out=out, resume="auto")) == reference


@pytest.mark.parametrize("arithmetic", ["native", "numpy"])
def test_threads_of_a_rank(mpich: Mpi, tmp_path: Path, arithmetic: str) -> None:
    """Products large enough to be dealt to threads: see SMALLEST_PIECE in hpcnn/nn/matmul.py."""
    job = tmp_path / "large.toml"
    job.write_text(
        '[data]\nsource = "synthetic"\nkind = "classification"\nsamples = 512\nfeatures = 784\n'
        '[model]\nlayers = [{ type = "dense", units = 1024, activation = "relu" }, '
        '{ type = "dense", units = 2, activation = "softmax" }]\n'
        '[loss]\nname = "sparse_categorical_crossentropy"\n[train]\nepochs = 1\nbatch_size = 256\nshards = 2\n'
        f'arithmetic = "{arithmetic}"\n'
    )
    hashes = set()
    for ranks, threads in ((0, "1"), (0, "2"), (0, "3"), (2, "2")):
        done = mpich.run(ranks, *TRAIN, job, "--quiet", cwd=tmp_path, environment={"HPCNN_THREADS": threads})
        assert done.returncode == 0, done.stderr
        hashes.add(sha256_of(done.stdout))
    assert len(hashes) == 1


def test_resume_under_the_other_mpi(
    ranks_of_mpich: RankServer, ranks_of_open_mpi: RankServer, tmp_path: Path, reference: str
) -> None:
    out = tmp_path / "run"
    train_short(ranks_of_mpich, 3, tmp_path, "run.stop_at_step=30", out=out, expect=STOPPED)
    assert sha256_of(train_short(ranks_of_open_mpi, 2, tmp_path, out=out, resume="auto")) == reference


def test_the_check_can_fail(mpich: Mpi, tmp_path: Path) -> None:
    """The same training with MPI's own order-free sum ends with other bits on other numbers of ranks."""
    hashes = {}
    for ranks in (2, 3, 5):
        done = mpich.run(ranks, "-m", "tests.mpi.order_free_training", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        hashes[ranks] = sha256_of(done.stdout)
    assert len(set(hashes.values())) > 1, hashes
