"""Snapshots in memory: surviving ranks agree on the farthest, and resume to the same bits."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.runs.build import build_training
from hpcnn.runs.snapshot import age, share, take_snapshot
from hpcnn.runs.state import unpack
from hpcnn.training.loop import StoppedError, TrainingLoop
from tests.small_jobs import Keeper, make_job, runs_through, train

JOB = make_job(
    optimizer={"name": "adam", "learning_rate": 0.05},
    train={"epochs": 3, "early_stopping": {"patience": 9, "restore_best": True}, "reduce_on_plateau": {"patience": 1}},
)
"""Three steps an epoch."""


def trained(job, comm, *, snapshot=None, stop_at=0):
    """Return a training on `comm`, from a snapshot on, up to the step `stop_at` or its end, and its progress."""
    job = msgspec.structs.replace(job, run=msgspec.structs.replace(job.run, stop_at_step=stop_at))
    training = build_training(job, Path(), comm)
    progress = unpack(snapshot, training) if snapshot else None
    callbacks = list(training.callbacks.values())
    loop = TrainingLoop(
        training, comm, callbacks=callbacks, save=Keeper(training), should_stop=lambda: False, progress=progress
    )
    assert runs_through(loop) == (not stop_at)
    return training, loop.progress


@pytest.mark.parametrize("steps", [(5, 4), (4, 4), (4, 1)], ids=["a step behind", "alike", "an epoch behind"])
def test_ranks_resume_from_the_farthest(steps):
    def body(comm):
        own = take_snapshot(*trained(JOB, SerialCommunicator(), stop_at=steps[comm.rank]))
        assert age(own) == divmod(steps[comm.rank], 3)
        shared = share(comm, own)
        assert (shared is own) == (steps[0] == steps[1])
        return shared, trained(JOB, comm, snapshot=shared)[0].replica.model.fingerprint()

    (first, sha256), (second, other) = run_threads(2, body)
    assert first.facts["progress"] == second.facts["progress"]
    assert first.facts["callbacks"] == second.facts["callbacks"]
    assert first.tensors.keys() == second.tensors.keys()
    for name, array in first.tensors.items():
        np.testing.assert_array_equal(second.tensors[name], array, err_msg=name)
    assert any(name.startswith("callbacks/early_stopping/") for name in first.tensors)
    assert sha256 == other == train(JOB).fingerprint


def test_a_snapshot_stays_as_it_is():
    training, progress = trained(JOB, SerialCommunicator(), stop_at=4)
    snapshot = take_snapshot(training, progress)
    before = {name: array.copy() for name, array in snapshot.tensors.items()}
    facts = msgspec.json.encode(snapshot.facts)
    loop = TrainingLoop(
        training, SerialCommunicator(), callbacks=list(training.callbacks.values()), save=Keeper(training),
        should_stop=lambda: progress.step == 7, progress=progress,
    )  # fmt: skip
    with pytest.raises(StoppedError):
        loop.run()
    assert progress.step == 8
    assert msgspec.json.encode(snapshot.facts) == facts
    for name, array in snapshot.tensors.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
