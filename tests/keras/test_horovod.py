"""Horovod under mpirun: its sums as an exchange of hpcnn, a Keras training over it, and how it ends."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.mpi.launch import Mpi

RANKS = "tests.keras.horovod_ranks"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
ONE_RANK = "one rank has nothing to exchange: hpcnn's own figure holds"
ROUNDING = {"float32": 1e-6, "float64": 1e-14}


@dataclass(frozen=True)
class Found:
    """What the ranks of one launch found."""

    report: dict[str, Any]
    runs: Path

    def weights(self, how: str) -> dict[str, np.ndarray]:
        """Return the weights of the job that was trained over ``mpi`` or ``horovod``."""
        return load_file(self.runs / how / "model.safetensors")


By = Callable[[Mpi, int], Found]


@pytest.fixture(scope="module")
def found_by(tmp_path_factory: pytest.TempPathFactory) -> By:
    """Return what starts a number of ranks, once for each number, and returns what they found; 0: without mpirun."""

    def find(mpi: Mpi, ranks: int) -> Found:
        runs = tmp_path_factory.mktemp("horovod")
        done = mpi.run(ranks, "-m", RANKS, "report", runs, cwd=runs, environment=QUIET)
        assert done.returncode == 0, done.stderr
        return Found(json.loads(done.stdout.splitlines()[-1]), runs)

    return functools.cache(find)


def check_sums(found: list[dict[str, Any]]) -> None:
    assert len(found) == 12
    for each in found:
        assert each["same"]
        assert each["results"] == 1
        assert each["vector"] < ROUNDING[each["dtype"]]
        assert each["stats"] < 0.01  # of 10^13: with float32 stats it is 10^6


def test_sums_are_right_and_the_same_on_all_ranks(found_by: By, horovod: Mpi) -> None:
    check_sums(found_by(horovod, 2).report["sums"])


def test_sums_of_one_process(found_by: By, newest_horovod: Mpi) -> None:
    check_sums(found_by(newest_horovod, 0).report["sums"])


def test_ranks_with_several_subtrees_of_the_tree(found_by: By, newest_horovod: Mpi) -> None:
    assert found_by(newest_horovod, 2).report["several nodes"] == [3.0] * 10 + [30.0] * 2


def test_the_side_of_a_scaling_study(found_by: By, newest_horovod: Mpi) -> None:
    found = found_by(newest_horovod, 2).report["study"]["horovod"]
    assert found["steps"] == 27
    assert len(found["seconds"]) == len(found["samples"]) == 7
    assert found_by(newest_horovod, 0).report["study"] == {"horovod": ONE_RANK}


def test_training_equals_that_of_one_process(found_by: By, horovod: Mpi) -> None:
    found = found_by(horovod, 2).report
    assert found["between ranks"] == 0.0
    assert found["to one process"] < 1e-6


def test_without_horovod_the_ranks_drift_apart(found_by: By, horovod: Mpi) -> None:
    assert found_by(horovod, 2).report["without"] > 0.01


def test_each_environment_has_the_tensorflow_that_it_is_for(found_by: By, newest_horovod: Mpi, tf218: Mpi) -> None:
    assert found_by(tf218, 2).report["tensorflow"].startswith("2.18.")
    newest = tuple(map(int, found_by(newest_horovod, 2).report["tensorflow"].split(".")[:2]))
    assert newest >= (2, 21)


def test_a_rank_that_fails_ends_the_others_within_a_sum(newest_horovod: Mpi, tmp_path: Path) -> None:
    done = newest_horovod.run(2, "-m", RANKS, "fail", cwd=tmp_path, environment=QUIET)
    assert done.returncode != 0
    assert "rank 1 on" in done.stderr
    assert "RuntimeError: out of luck" in done.stderr
    assert time.time() - float(done.stdout.split()[0]) < 15


def test_job_equals_that_of_one_process(found_by: By, horovod: Mpi, newest_horovod: Mpi) -> None:
    one_process, weights = found_by(newest_horovod, 0).weights("mpi"), found_by(horovod, 2).weights("horovod")
    assert weights.keys() == one_process.keys()
    for name, value in weights.items():
        np.testing.assert_allclose(value, one_process[name], rtol=0, atol=ROUNDING["float32"], err_msg=name)


def test_job_of_one_process_over_horovod(found_by: By, newest_horovod: Mpi) -> None:
    """The bits are those of the job as hpcnn adds its shards."""
    alone = found_by(newest_horovod, 0)
    one_process, weights = alone.weights("mpi"), alone.weights("horovod")
    assert weights.keys() == one_process.keys()
    assert all(value.tobytes() == one_process[name].tobytes() for name, value in weights.items())


def test_horovod_check(newest_horovod: Mpi, tmp_path: Path) -> None:
    done = newest_horovod.run(0, "-m", "hpcnn.horovod", "check", cwd=tmp_path, environment=QUIET)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Horovod sums correctly on 2 ranks, with MPICH Version: "), done.stdout


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
