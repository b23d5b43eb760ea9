"""Jobs and arrays that `hpcnn.fit` takes, or refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpcnn
from hpcnn.api.jobs import GivenData, check_alike, prepare_job
from hpcnn.comm.collectives import agree
from hpcnn.comm.threads import run_threads
from hpcnn.errors import DataError, JobError, ModelError
from hpcnn.job.load import load_job
from tests.api.fitting import HELD, JOB, X, Y, fit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"job": {**JOB, "lost": {}}}, r"^fit: unknown section or key 'lost' in the job file. Did you mean 'loss'\?"),
        ({"job": {**JOB, "train": {"epochs": 0}}}, r"^fit: train.epochs = 0: expected an integer >= 1"),
        ({"overrides": {"train.epochs": -1}}, r"^fit with --set train.epochs: train.epochs = -1"),
        ({"overrides": "train.epochs=1"}, "expected a dict"),
        ({"job": 7}, "the job is int; expected the path of a job file"),
        ({"job": "nowhere.toml"}, r"no job file 'nowhere.toml'"),
        ({"job": {**JOB, "data": 3}}, r"data = 3: expected a table"),
        ({"job": {**JOB, "data": {"path": "x"}}}, r"unknown key 'path' in \[data\] of source 'memory'"),
        ({"overrides": {"data.validation_fraction": 0.2}}, "both give validation data. Leave out one of them"),
        ({"job": {**JOB, "model": {"layers": [{"type": "dense", "units": 1}]}}}, "one output for each class|outputs"),
    ],
)
def test_a_job_that_does_not_fit(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((JobError, ModelError), match=message):
        fit(tmp_path, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"data is ndarray; expected a pair of arrays: data=\(x, y\)"),
        ((X, Y[:-1]), "60 inputs .* but 59 targets"),
        ((X.astype(object), Y), "x of data has dtype object"),
        ((X, Y.astype(complex)), "column 'target' of y of data has type complex128"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "x of data can't be converted to an array"),
        ((X[:0], Y[:0]), "are empty"),
        ((1.0, 2.0), "is a single number"),
    ],
)
def test_arrays_that_are_no_data(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        fit(tmp_path, data, validation=None)


def test_validation_alone_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"validation= is given, but data=\(x, y\) is not"):
        fit(tmp_path, None)


def test_a_job_object_and_a_file_mean_the_same(fitted: hpcnn.Fitted, tmp_path: Path) -> None:
    job = load_job(fitted.folder / "job.toml").job
    assert fit(tmp_path / "a", job=job).weights_sha256 == fitted.weights_sha256
    assert fit(tmp_path / "b", job=fitted.folder / "job.toml").weights_sha256 == fitted.weights_sha256


def test_the_dict_of_a_job_stays_as_it_is(tmp_path: Path) -> None:
    before = repr(JOB)
    fit(tmp_path, overrides=["train.epochs=1", "run.loggers=[]"])
    assert repr(JOB) == before


def test_overrides_are_values_and_no_text(tmp_path: Path) -> None:
    arrays = {"train.epochs": np.int64(1), "train.metrics": np.array(["accuracy"]), "train.shards": None}
    job, _ = prepare_job(
        JOB, {**arrays, "train.early_stopping": {"patience": 3}, "name": "𝄞=x"}, GivenData((X, Y), HELD)
    )
    train = job.job.train
    assert (train.epochs, train.metrics, train.shards, job.job.name) == (1, ["accuracy"], "auto", "𝄞=x")
    assert train.early_stopping is not None
    assert train.early_stopping.patience == 3
    with pytest.raises(JobError, match=r"optimizer.learning_rate = Infinity: expected a number > 0"):
        prepare_job(JOB, {"optimizer.learning_rate": np.inf}, GivenData((X, Y), HELD))
    with pytest.raises(JobError, match=r"--set train..epochs: expected key=value"):
        prepare_job(JOB, {"train..epochs": 1}, GivenData((X, Y), HELD))


def test_ranks_must_be_given_the_same() -> None:
    job = load_job().job
    others = [{"out": "a"}, {"out": "a"}, {"out": "b"}]
    with pytest.raises(JobError, match=r'rank 2 gives hpcnn.fit other things than rank 0 does: out: "a" -> "b"'):
        run_threads(3, lambda comm: agree(comm, lambda: check_alike(comm, job, **others[comm.rank])))
    run_threads(2, lambda comm: agree(comm, lambda: check_alike(comm, job, **others[comm.rank])))
