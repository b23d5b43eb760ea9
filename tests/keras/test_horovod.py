"""Horovod under mpirun: its sums as an exchange of hpcnn, a Keras training over it, and how it ends."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.mpi.launch import ROOT, Mpi

RANKS = "tests.keras.horovod_ranks"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
ROUNDING = {"float32": 1e-6, "float64": 1e-14}


@functools.cache  # each takes seconds, and several tests look at it
def report(mpi: Mpi, ranks: int) -> dict[str, Any]:
    """Return what the ranks found; `ranks` = 0 is one process without mpirun."""
    done = mpi.run(ranks, "-m", RANKS, "report", cwd=Path(__file__).parent, environment=QUIET)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_sums(found: list[dict[str, Any]]) -> None:
    assert len(found) == 12
    for each in found:
        assert each["same"]
        assert each["results"] == 1
        assert each["vector"] < ROUNDING[each["dtype"]]
        assert each["stats"] < 0.01  # of 10^13: with float32 stats it is 10^6


def test_sums_are_right_and_the_same_on_all_ranks(horovod: Mpi) -> None:
    check_sums(report(horovod, 2)["sums"])


def test_sums_of_one_process(newest_horovod: Mpi) -> None:
    check_sums(report(newest_horovod, 0)["sums"])


def test_ranks_with_several_subtrees_of_the_tree(newest_horovod: Mpi) -> None:
    assert report(newest_horovod, 2)["several nodes"] == [3.0] * 10 + [30.0] * 2


def test_training_equals_that_of_one_process(horovod: Mpi) -> None:
    found = report(horovod, 2)
    assert found["between ranks"] == 0.0
    assert found["to one process"] < 1e-6


def test_without_horovod_the_ranks_drift_apart(horovod: Mpi) -> None:
    assert report(horovod, 2)["without"] > 0.01


def test_each_environment_has_the_tensorflow_that_it_is_for(newest_horovod: Mpi, tf218: Mpi) -> None:
    assert report(tf218, 2)["tensorflow"].startswith("2.18.")
    newest = tuple(map(int, report(newest_horovod, 2)["tensorflow"].split(".")[:2]))
    assert newest >= (2, 21)


def test_a_rank_that_fails_ends_the_others_within_a_sum(newest_horovod: Mpi, tmp_path: Path) -> None:
    done = newest_horovod.run(2, "-m", RANKS, "fail", cwd=tmp_path, environment=QUIET)
    assert done.returncode != 0
    assert "rank 1 on" in done.stderr
    assert "RuntimeError: out of luck" in done.stderr
    assert time.time() - float(done.stdout.split()[0]) < 15


@pytest.fixture(scope="module")
def one_process(newest_horovod: Mpi, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Return the weights of a job in one process, as hpcnn adds its shards."""
    return weights_of_job(newest_horovod, 0, "mpi", tmp_path_factory.mktemp("one"))


def weights_of_job(mpi: Mpi, ranks: int, comm: str, folder: Path) -> dict[str, np.ndarray]:
    settings = ("backend=keras", f"keras.comm={comm}", "train.epochs=2", "train.shards=3")
    options = [word for setting in settings for word in ("--set", setting)]
    job = ROOT / "jobs" / "digits_mlp.toml"
    done = mpi.run(ranks, "-m", "hpcnn.train", job, "--quiet", "--out", folder / "run", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return load_file(folder / "run" / "model.safetensors")


def test_job_equals_that_of_one_process(horovod: Mpi, one_process: dict[str, np.ndarray], tmp_path: Path) -> None:
    weights = weights_of_job(horovod, 2, "horovod", tmp_path)
    assert weights.keys() == one_process.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(value, one_process[name], rtol=0, atol=ROUNDING["float32"], err_msg=name)


def test_job_of_one_process_over_horovod(
    newest_horovod: Mpi, one_process: dict[str, np.ndarray], tmp_path: Path
) -> None:
    weights = weights_of_job(newest_horovod, 0, "horovod", tmp_path)
    assert all(value.tobytes() == one_process[name].tobytes() for name, value in weights.items())


def test_horovod_check(newest_horovod: Mpi, tmp_path: Path) -> None:
    done = newest_horovod.run(0, "-m", "hpcnn.horovod", "check", cwd=tmp_path, environment=QUIET)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Horovod adds right on 2 ranks, with MPICH Version: "), done.stdout


@pytest.mark.parametrize(
    ("ranks", "action", "message"),
    [
        (2, "build", "started 2 processes: one is enough to build Horovod"),
        (0, "fetch", "invalid choice: 'fetch'"),
    ],
)
def test_wrong_command_lines(
    tensorflow_environment: Mpi, tmp_path: Path, ranks: int, action: str, message: str
) -> None:
    done = tensorflow_environment.run(ranks, "-m", "hpcnn.horovod", action, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("error: ") == 1
