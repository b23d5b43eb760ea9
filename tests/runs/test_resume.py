"""Stopped at any step and resumed on any number of ranks = never stopped, bit for bit."""

import pytest

from hpcnn.runs.state import check_same_job
from hpcnn.storage.checkpoint import load_checkpoint, save_checkpoint
from tests.small_jobs import make_job, train

EARLY = {"monitor": "val_loss", "patience": 3, "restore_best": True}
PLATEAU = {"monitor": "loss", "patience": 1, "factor": 0.5, "min_delta": 0.2}
JOB = make_job(train={"epochs": 3, "early_stopping": EARLY, "reduce_on_plateau": PLATEAU},
               schedule={"name": "cosine", "unit": "step", "warmup": 2})  # fmt: skip
STEPS = 9
RANKS = (1, 2, 3, 4, 5, 7, 8)


@pytest.fixture(scope="module")
def uninterrupted():
    outcome = train(JOB)
    assert outcome.done
    assert outcome.state.facts["progress"]["step"] == STEPS
    return outcome


@pytest.mark.parametrize("stop_at", range(1, STEPS + 1))
def test_a_run_that_is_stopped_at_any_step_ends_as_if_it_were_not(stop_at, uninterrupted):
    before, after = RANKS[stop_at % len(RANKS)], RANKS[(stop_at + 3) % len(RANKS)]
    stopped = train(JOB, before, stop_at=stop_at, asked=before - 1)
    assert not stopped.done
    assert stopped.saves[-1] == (stop_at, False, True)
    assert stopped.state.facts["progress"]["step"] == stop_at
    resumed = train(JOB, after, start=stopped.state)
    assert resumed.done
    assert resumed.fingerprint == uninterrupted.fingerprint
    assert resumed.bits() == uninterrupted.bits()
    values = [report.values for report in (*stopped.reports, *resumed.reports)]
    assert values == [report.values for report in uninterrupted.reports]


def test_a_run_that_is_stopped_at_each_step_in_turn(uninterrupted, tmp_path):
    """Every state goes through a file, as it does in a run."""
    path, start = tmp_path / "last.safetensors", None
    for stop_at in range(1, STEPS + 1):
        stopped = train(JOB, RANKS[stop_at % len(RANKS)], start=start, stop_at=stop_at)
        assert not stopped.done
        save_checkpoint(path, stopped.state)
        start = load_checkpoint(path)
    resumed = train(JOB, 2, start=start)
    assert resumed.done
    assert resumed.bits() == uninterrupted.bits()


@pytest.mark.parametrize("changes", [
    {"optimizer": {"name": "adam", "clip_norm": 1.0}},
    {"optimizer": {"name": "rmsprop", "momentum": 0.5, "centered": True}},
    {"optimizer": {"name": "adagrad"}},
    {"optimizer": {"name": "sgd", "decay": 0.1}},
    {"data": {"scale": "none", "validation_fraction": 0.0}},
    {"train": {"metrics": ["confusion_matrix", "f1"]}},
], ids=str)  # fmt: skip
def test_states_of_other_jobs(changes):
    job = make_job(**changes)
    whole = train(job, 2)
    for stop_at in (2, 4):
        stopped = train(job, 3, stop_at=stop_at)
        assert train(job, 1, start=stopped.state).bits() == whole.bits()


def test_stop_at_step_of_the_job_stops_there():
    stopped = train(make_job(run={"stop_at_step": 4}), 2)
    assert not stopped.done
    assert stopped.saves[-1] == (4, False, True)


def test_a_run_that_early_stopping_ended_does_not_go_on():
    """It may have been killed after its last checkpoint, or been asked for more epochs."""
    early = EARLY | {"patience": 1, "min_delta": 10.0}
    job = make_job(train={"epochs": 8, "early_stopping": early})
    whole = train(job)
    assert len(whole.reports) == 2
    again = train(job, 2, start=whole.state)
    assert again.done
    assert again.reports == []
    assert again.fingerprint == whole.fingerprint
    more = make_job(train={"epochs": 20, "early_stopping": early})
    check_same_job(whole.state.facts["job"], more)
    assert train(more, start=whole.state).fingerprint == train(more).fingerprint


def test_more_epochs_go_on_where_the_run_ended():
    short, long = make_job(train={"epochs": 2}), make_job(train={"epochs": 4})
    assert train(long, 3, start=train(short, 2).state).bits() == train(long).bits()


def test_a_stop_at_the_last_step_of_all_leaves_only_the_end_to_do(uninterrupted):
    stopped = train(JOB, 2, stop_at=STEPS)
    assert not stopped.done
    resumed = train(JOB, 1, start=stopped.state)
    assert [report.epoch for report in resumed.reports] == [3]
    assert resumed.reports[0].values == uninterrupted.reports[-1].values


def test_a_state_that_waits_in_memory_stays_as_it_was(uninterrupted):
    assert len(uninterrupted.states) == 3
    for state in uninterrupted.states:
        assert not state.tensors["progress/totals"].any()  # of the epoch that is about to begin
        resumed = train(JOB, 2, start=state)
        assert resumed.fingerprint == uninterrupted.fingerprint
        later = uninterrupted.reports[state.facts["progress"]["epoch"] :]
        assert [report.values for report in resumed.reports] == [report.values for report in later]


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("asked", [0, 2])
def test_a_stop_that_is_asked_for_before_an_evaluation_breaks_it_off(epoch, asked, uninterrupted):
    """The epoch's steps are saved, and the evaluation is done by whoever goes on."""

    stopped = train(JOB, 3, stop_at=3 * epoch, asked=asked, late=True)
    assert not stopped.done
    assert stopped.state.facts["progress"]["step_in_epoch"] == 3
    assert len(stopped.reports) == epoch - 1
    resumed = train(JOB, 2, start=stopped.state)
    assert resumed.bits() == uninterrupted.bits()
