"""Processes that share windows of decoded chunks: one result, and an end in seconds whatever happens to one of them."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.mpi.launch import ROOT, Mpi, finish, sha256_of
from tests.mpi.rank_server import RankServer
from tests.mpi.served_training import train
from tests.require import require
from tests.timing import check_in_time, wait_until

STOPPED = 75
JOB = """
[data]
source = "hdf5"
path = "digits.h5"
validation_fraction = 0.2
scale = "standardize"
order = "windows"
window_chunks = 6
keep = "file"
[model]
layers = [
    { type = "flatten" },
    { type = "dense", units = 32, activation = "relu" },
    { type = "dense", units = 10, activation = "softmax" },
]
[loss]
name = "sparse_categorical_crossentropy"
[train]
epochs = 2
batch_size = 48
shards = 8
"""
ENDS_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    with (
        np.load(ROOT / "hpcnn" / "data" / "digits.npz") as digits,
        require("h5py").File(folder / "digits.h5", "w") as file,
    ):
        for name in ("x", "y"):
            rows = digits[name]
            file.create_dataset(name, data=rows, chunks=(32, *rows.shape[1:]), compression="gzip")
    (folder / "job.toml").write_text(JOB)
    return folder / "job.toml"


@pytest.fixture(scope="module")
def reference(ranks_of_mpich: RankServer, job: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the job on one rank that reads nothing ahead."""
    return sha256_of(train(ranks_of_mpich, 0, job, "data.prefetch=0", cwd=tmp_path_factory.mktemp("reference")))


@pytest.mark.parametrize(("ranks", "settings", "shared"), [
    (1, [], "on"), (2, [], "on"), (3, ["data.prefetch=0"], "on"), (5, [], "on"), (2, [], "off"),
    (4, ["data.keep=memory"], "on"),
])  # fmt: skip
def test_the_bits_are_those_of_one_rank(
    ranks_of_mpich: RankServer, job: Path, reference: str, tmp_path: Path, ranks: int, settings: list[str], shared: str
) -> None:
    environment = {"HPCNN_SHARED_MEMORY": shared}
    assert sha256_of(train(ranks_of_mpich, ranks, job, *settings, cwd=tmp_path, environment=environment)) == reference


def test_stopped_in_an_epoch_and_resumed_on_other_ranks(
    ranks_of_mpich: RankServer, job: Path, reference: str, tmp_path: Path
) -> None:
    server, out = ranks_of_mpich, tmp_path / "run"
    for ranks, step in ((3, 7), (2, 8), (5, 41)):
        train(server, ranks, job, f"run.stop_at_step={step}", cwd=tmp_path, out=out, resume="auto", expect=STOPPED)
    assert sha256_of(train(server, 1, job, "data.keep=memory", cwd=tmp_path, out=out, resume="auto")) == reference


@pytest.mark.timed
def test_a_rank_that_is_killed_in_an_epoch_ends_the_job_which_resumes(
    mpich: Mpi, ranks_of_mpich: RankServer, job: Path, reference: str, tmp_path: Path
) -> None:
    """Rank 1 dies where the others wait for its share of a window, or for its gradients."""
    out = tmp_path / "run"
    each = ("--set", "run.checkpoint_every_steps=5", "--out", str(out), "--quiet")
    fault = {"HPCNN_FAULT": "kill rank=1 step=17 phase=data"}
    begin = time.monotonic()
    done = mpich.run(3, "-m", "hpcnn.train", job, *each, cwd=tmp_path, environment=fault)
    seconds = time.monotonic() - begin
    assert done.returncode not in (0, 2, STOPPED), done.stderr
    assert (out / "checkpoints").is_dir()
    again = ["run.checkpoint_every_steps=5"]
    assert sha256_of(train(ranks_of_mpich, 2, job, *again, cwd=tmp_path, out=out, resume="auto")) == reference
    check_in_time(seconds, ENDS_WITHIN_S)


@pytest.mark.timed
def test_a_signal_stops_a_training_that_reads_ahead(mpich: Mpi, job: Path, tmp_path: Path) -> None:
    long = ("--set", "train.epochs=20000", "--out", "run", "--quiet")
    process = mpich.start(3, "-m", "hpcnn.train", job, *long, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: process.poll() is not None or (metrics.exists() and metrics.stat().st_size))
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.returncode == STOPPED, done.stderr
    check_in_time(time.monotonic() - begin, ENDS_WITHIN_S)


@pytest.mark.timed
def test_a_file_that_breaks_ends_the_job_with_its_message(mpich: Mpi, job: Path, tmp_path: Path) -> None:
    own = tmp_path / "digits.h5"
    own.write_bytes((job.parent / "digits.h5").read_bytes())
    long = ("--set", "train.epochs=20000", "--out", "run", "--quiet", "--set", f"data.path={own}")
    process = mpich.start(3, "-m", "hpcnn.train", job, *long, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: process.poll() is not None or (metrics.exists() and metrics.stat().st_size))
    begin = time.monotonic()
    with own.open("r+b") as file:
        file.truncate(4096)
    done = finish(process)
    assert done.returncode not in (0, STOPPED), done.stdout
    assert "can't be read" in done.stderr
    assert "Traceback" not in done.stderr
    check_in_time(time.monotonic() - begin, ENDS_WITHIN_S)
