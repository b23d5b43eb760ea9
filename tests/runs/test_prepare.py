"""Parts of the preparation that need no whole run; the whole is tested under mpirun, in tests/mpi."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.collectives import agree
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.errors import CheckpointError, CommunicatorError
from hpcnn.job.load import LoadedJob, load_job
from hpcnn.job.schema import Job
from hpcnn.kernels.version import ARITHMETIC_VERSION
from hpcnn.runs import prepare, session
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.start import Start
from hpcnn.storage.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from hpcnn.training import backend
from tests.small_jobs import make_job


def save(path: Path, value: float) -> Path:
    save_checkpoint(path, Checkpoint({"model/w": np.full(3, value)}, {"job": {}}))
    return path


def test_all_ranks_must_read_one_checkpoint_alike(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.safetensors", 1.0), save(tmp_path / "b.safetensors", 1.0)]

    def body(comm: ThreadCommunicator) -> Checkpoint | None:
        return agree(comm, lambda: prepare.read_on_all_ranks(comm, paths[comm.rank]))

    first, second = run_threads(2, body)
    assert first is not None
    assert second is not None
    assert first.content_sha256 == second.content_sha256
    save(paths[1], 2.0)
    with pytest.raises(CheckpointError, match=r"rank 1 on \S+ reads another .* than rank 0 on"):
        run_threads(2, body)


def test_no_checkpoint_to_read() -> None:
    assert run_threads(2, lambda comm: prepare.read_on_all_ranks(comm, None)) == [None, None]


# ------------------------------------------------------------------------------------------- what else decides the bits


ARITHMETICS = ("native", "numpy")
PROCESSORS = ("Zen 5", "Skylake")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> threading.local:
    """The processor of each thread, as the BLAS library would tell it."""
    local = threading.local()
    monkeypatch.setattr(backend, "fingerprint", lambda: {"processor": local.name})
    return local


def test_what_decides_the_bits_beside_the_job(processor: threading.local) -> None:
    processor.name = PROCESSORS[0]
    native, numpy = (make_job(train={"arithmetic": arithmetic}) for arithmetic in ARITHMETICS)
    in_keras = msgspec.structs.replace(native, backend="keras")
    keras = SimpleNamespace(facts={"tensorflow": "2.20"})
    assert backend.machine_info(native, NUMPY) == {"arithmetic": f"native {ARITHMETIC_VERSION}"}
    assert backend.machine_info(numpy, NUMPY) == {"processor": "Zen 5"}
    assert backend.machine_info(in_keras, keras) == {  # type: ignore[arg-type]
        "arithmetic": f"native {ARITHMETIC_VERSION}", "processor": "Zen 5", "tensorflow": "2.20",
    }  # fmt: skip


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_another_processor_is_told_of_where_it_decides_bits(
    arithmetic: str, processor: threading.local, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = LoadedJob(
        make_job(train={"arithmetic": arithmetic}, run={"display": "quiet", "stop_at_step": 2}), tmp_path, tmp_path
    )
    for processor.name, words in zip(PROCESSORS, ("", "another machine or library"), strict=True):
        session.train(loaded, SerialCommunicator(), out=tmp_path / "run", resume="auto")
        told = capfd.readouterr().out
        assert ("warning" in told) == (bool(words) and arithmetic == "numpy")
        assert words in told or arithmetic == "native"
        loaded = replace(loaded, job=make_job(train={"arithmetic": arithmetic}, run={"display": "quiet"}))
    result = RunFolder(tmp_path / "run").read_result()
    assert result is not None
    assert ("processor" in result["machine"], "arithmetic" in result["machine"]) == (True, arithmetic == "native")


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_ranks_on_unlike_processors(
    arithmetic: str, processor: threading.local, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job(data={"samples": 120}, train={"arithmetic": arithmetic, "epochs": 1}, run={"display": "quiet"})

    def body(comm: ThreadCommunicator) -> None:
        processor.name = PROCESSORS[comm.rank]
        prepare.prepare(comm, request_of(job, tmp_path), Start(RunFolder(tmp_path)))

    run_threads(2, body)
    told = capfd.readouterr().out
    assert told.count("warning: the ranks run on different machines or libraries") == (arithmetic == "numpy")


def test_ranks_never_mix_arithmetics(processor: threading.local, tmp_path: Path) -> None:
    def body(comm: ThreadCommunicator) -> None:
        processor.name = PROCESSORS[0]
        job = make_job(train={"arithmetic": ARITHMETICS[comm.rank]})
        prepare.prepare(comm, request_of(job, tmp_path), Start(RunFolder(tmp_path)))

    with pytest.raises(
        CommunicatorError, match=f"rank 0 is native {ARITHMETIC_VERSION}, and that of rank 1 is numpy. Give all"
    ):
        run_threads(2, body)


def request_of(job: Job, folder: Path) -> prepare.TrainingRequest:
    return prepare.TrainingRequest(LoadedJob(job, folder, folder), NUMPY, prepare.Extras(), hosts=1)


# ----------------------------------------------------------------------------------------------------- automatic shards


def test_a_run_goes_on_with_the_shards_that_it_recorded(tmp_path: Path) -> None:
    """As those of versions that took as many as the first start had ranks."""

    def trained(shards: int | str, steps: int) -> Job:
        job = make_job(train={"shards": shards}, run={"display": "none", "stop_at_step": steps})
        outcome = session.train(
            LoadedJob(job, tmp_path, tmp_path), SerialCommunicator(), out=tmp_path / "run", resume="auto"
        )
        assert outcome.training is not None
        return outcome.training.job

    trained(3, 2)
    assert trained("auto", 4).train.shards == 3
    with pytest.raises(CheckpointError, match=r"train\.shards: 3 -> 8"):
        trained(8, 5)
    assert load_job(tmp_path / "run" / "job.toml").job.train.shards == 3


# ----------------------------------------------------------------------------------- a job that leaves arithmetic open


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "of a version without the setting"])
def test_a_run_goes_on_with_its_own_arithmetic_where_the_job_leaves_it_open(recorded: bool, tmp_path: Path) -> None:
    def trained(run: str, *overrides: str) -> session.Outcome:
        settings = ["train.epochs=1", "train.shards=4", "run.display=none", *overrides]
        return session.train(load_job(None, settings), SerialCommunicator(), out=tmp_path / run, resume="auto")

    whole = trained("whole", "train.arithmetic=numpy")
    trained("run", "train.arithmetic=numpy", "run.stop_at_step=3")
    if not recorded:
        last = tmp_path / "run" / "checkpoints" / "last.safetensors"
        checkpoint = load_checkpoint(last)
        del checkpoint.facts["job"]["train"]["arithmetic"]
        save_checkpoint(last, Checkpoint(checkpoint.tensors, checkpoint.facts))
    with pytest.raises(CheckpointError, match=r"train\.arithmetic: \"numpy\" -> \"native\""):
        trained("run", "train.arithmetic=native")
    resumed = trained("run")
    assert resumed.training is not None
    assert resumed.training.job.train.arithmetic == "numpy"
    assert RunFolder(tmp_path / "run").read_result()["weights_sha256"] == whole.training.replica.model.fingerprint()
    assert load_job(tmp_path / "run" / "job.toml").job.train.arithmetic == "numpy"
    assert trained("new").training.job.train.arithmetic == "native"
