"""The timeline: well-formed whatever was recorded, complete as long as it is to be, and without a trace in the bits."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpcnn.comm.protocol import Communicator
from hpcnn.comm.threads import ThreadCommunicator, run_threads
from hpcnn.core.activity import BACKWARD, DATA, EVALUATE, FORWARD, OTHER, SAVE, WAIT, Activity
from hpcnn.job.schema import Job
from hpcnn.runs.build import build_training
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.timeline import clocks, marks
from hpcnn.runs.timeline.clocks import RankClock
from hpcnn.runs.timeline.marks import Marks, Recorder
from hpcnn.runs.timeline.timeline import Timeline
from hpcnn.runs.timeline.trace_file import RankTrace, write_trace
from hpcnn.training.loop import TrainingLoop
from tests.small_jobs import Keeper, at_step, make_job

JOB = make_job()
STEPS, EPOCHS = 3, 2
"""Of an epoch, and of the job."""
LAYERS = {"layer_norm_1", "dense_1", "dropout_1", "residual_1", "dense_2", "dense_3"}


def train(folder: Path, ranks: int, steps: int, *, on: bool = True, job: Job = JOB) -> str:
    """Train the job with a timeline of so many steps, and return the fingerprint of the weights."""

    def body(comm: Communicator) -> str:
        training = build_training(job, Path(), comm)
        timeline = Timeline(comm, RunFolder(folder), training.spec.network, steps)
        callbacks = [timeline] if on else []
        TrainingLoop(training, comm, callbacks=callbacks, save=Keeper(training), should_stop=lambda: False).run()
        if on:
            timeline.finish()
            assert (comm.activity.on_enter, comm.activity.exchange_thread) == (None, None), "somebody still listens"
        return training.replica.model.fingerprint()

    first, *others = run_threads(ranks, body)
    assert others == [first] * (ranks - 1)
    return first


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        content = json.load(file)
    assert content["otherData"]["clock_error_us"] >= 0
    events: list[dict[str, Any]] = content["traceEvents"]
    return events


def slices(events: list[dict[str, Any]]) -> list[tuple[int, list[str], dict[str, Any]]]:
    """Return process, names of the slices around and of the own, and begin of each; check that all are well-formed."""
    opened: dict[tuple[int, int], list[str]] = defaultdict(list)
    last: dict[tuple[int, int], float] = defaultdict(float)
    found = []
    for event in events:
        if event["ph"] == "M":
            continue
        thread = event["pid"], event["tid"]
        assert event["ts"] >= last[thread], "time goes back"
        last[thread] = event["ts"]
        if event["ph"] == "B":
            opened[thread].append(event["name"])
            found.append((event["pid"], list(opened[thread]), event))
        else:
            assert event["ph"] == "E"
            opened[thread].pop()
    assert not any(opened.values()), "a slice does not end"
    return found


def test_every_rank_step_phase_and_layer(tmp_path: Path) -> None:
    train(tmp_path, 3, STEPS * EPOCHS)
    events = read(tmp_path / "timeline.json.gz")
    names = [event["args"]["name"] for event in events if event["ph"] == "M" and event["name"] == "process_name"]
    assert [name.split(" on ")[0] for name in names] == ["rank 0", "rank 1", "rank 2"]
    found = slices(events)
    for process in (1, 2, 3):
        own = [(path, event) for rank, path, event in found if rank == process]
        steps = [path for path, event in own if event["cat"] == "step"]
        assert steps == [[f"step {step}"] for step in range(1, STEPS * EPOCHS + 1)]
        within = {path[1] for path, _ in own if len(path) == 2}
        assert {"data", "forward", "backward", "wait", "reduce", "optimizer"} <= within
        assert ["save"] in [path for path, _ in own]
        for phase in ("forward", "backward"):
            layers = {path[-1] for path, event in own if event["cat"] == "layer" and path[1] == phase}
            assert layers == LAYERS, phase
    assert any(path[0] == "evaluate" and path[-1] in LAYERS for _, path, _ in found)


def test_phases_know_their_step_and_epoch(tmp_path: Path) -> None:
    train(tmp_path, 1, STEPS * EPOCHS)
    found = slices(read(tmp_path / "timeline.json.gz"))
    places = {(path[0], event["args"]["epoch"], event["args"]["step"]) for _, path, event in found if path[-1] == DATA}
    assert places == {(f"step {step}", 1 + (step - 1) // STEPS, step) for step in range(1, STEPS * EPOCHS + 1)}
    evaluations = [event["args"] for _, path, event in found if path == ["evaluate"]]
    assert {(each["epoch"], each["step"]) for each in evaluations} == {(1, STEPS), (2, 2 * STEPS)}


@pytest.mark.parametrize("steps", [1, 2, STEPS, STEPS + 1])
def test_later_steps_are_left_out_but_not_what_is_between_epochs(tmp_path: Path, steps: int) -> None:
    train(tmp_path, 2, steps)
    found = slices(read(tmp_path / "timeline.json.gz"))
    assert sum(event["cat"] == "step" for _, _, event in found) == 2 * steps
    in_steps = [path for _, path, event in found if event["cat"] == "phase" and path[-1] in (FORWARD, BACKWARD, DATA)]
    assert all(path[0].startswith("step ") for path in in_steps)
    layers = [path for _, path, event in found if event["cat"] == "layer"]
    assert all(path[0].startswith("step ") for path in layers) == (steps <= STEPS)
    evaluated = {event["args"]["epoch"] for _, path, event in found if path == ["evaluate"]}
    assert evaluated == {1, 2}
    assert [event["args"]["step"] for _, path, event in found if path == ["save"]][-1] == STEPS * EPOCHS


@pytest.mark.parametrize("sharded", [True, False])
def test_the_thread_that_exchanges_beside_the_computation(tmp_path: Path, sharded: bool) -> None:
    job = make_job(train={"optimizer_sharding": sharded, "bucket_mb": 0.0001})
    train(tmp_path, 2, STEPS, job=job)
    found = slices(read(tmp_path / "timeline.json.gz"))
    beside = [path for _, path, event in found if event["tid"] == 2]
    assert {path[0] for path in beside} <= {"wait", "reduce", "optimizer"}
    assert all(len(path) == 1 for path in beside)
    assert ["wait"] in beside
    assert (["optimizer"] in beside) == sharded
    assert any(path[-1] == "backward" for _, path, event in found if event["tid"] == 1)


def test_a_run_that_dies_leaves_what_was_to_be_recorded(tmp_path: Path) -> None:
    class DiesLaterError(Exception):
        pass

    def body(comm: ThreadCommunicator) -> None:
        training = build_training(JOB, Path(), comm)
        timeline = Timeline(comm, RunFolder(tmp_path), training.spec.network, 2)
        timeline.on_train_begin(0, training.replica)
        for step in (1, 2):
            comm.activity.step = step
            comm.activity.enter(FORWARD)
            timeline.on_step(at_step(step))
        comm.barrier()
        raise DiesLaterError

    with pytest.raises(DiesLaterError):
        run_threads(2, body)
    found = slices(read(tmp_path / "timeline.json.gz"))
    assert sum(event["cat"] == "step" for _, _, event in found) == 4


def test_after_the_last_step_none_is_recorded_on_ranks_where_that_was_broken_off(tmp_path: Path) -> None:
    def body(comm: ThreadCommunicator) -> None:
        training = build_training(JOB, Path(), comm)
        timeline = Timeline(comm, RunFolder(tmp_path), training.spec.network, comm.rank)
        timeline.on_train_begin(0, training.replica)
        assert comm.activity.exchange_thread is None
        for step in range(1, 4):
            comm.activity.step = step
            comm.activity.enter(FORWARD)
            timeline.on_step(at_step(step))
        timeline.finish()

    run_threads(2, body)
    assert not [path for _, path, event in slices(read(tmp_path / "timeline.json.gz")) if event["cat"] == "step"]


def test_the_bits_stay(tmp_path: Path) -> None:
    assert train(tmp_path, 2, 4) == train(tmp_path, 2, 4, on=False)


def test_where_it_can_not_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "gone", 1, STEPS * EPOCHS)
    assert "warning: timeline.json.gz can't be written (" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------- marks


def codes_of(recorder: Recorder) -> list[int]:
    codes: list[int] = recorder.marks().codes.tolist()
    return codes


def test_who_listens_to_the_activity_still_does() -> None:
    heard: list[str] = []
    activity = Activity()
    activity.on_enter = lambda: heard.append(activity.phase)
    recorder = Recorder(activity, [])
    recorder.follow()
    activity.enter(FORWARD)
    recorder.only_between_epochs()
    activity.enter(BACKWARD)
    recorder.leave()
    activity.enter(DATA)
    assert heard == [FORWARD, BACKWARD, DATA]
    assert len(codes_of(recorder)) == 3, "FORWARD and two pauses"


def test_only_between_epochs() -> None:
    activity = Activity()
    recorder = Recorder(activity, [])
    recorder.follow()
    recorder.only_between_epochs()
    for phase in (DATA, WAIT, EVALUATE, WAIT, EVALUATE, OTHER, DATA, SAVE, SAVE, OTHER, WAIT):
        activity.enter(phase)
    wanted = [marks.PAUSE, EVALUATE, WAIT, EVALUATE, marks.PAUSE, SAVE, marks.PAUSE, marks.PAUSE]
    assert codes_of(recorder) == [marks._PHASE_CODES.get(each, each) for each in wanted]


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "MOST_MARKS", 20)
    train(tmp_path, 1, STEPS * EPOCHS)
    found = slices(read(tmp_path / "timeline.json.gz"))
    assert sum(event["cat"] == "step" for _, _, event in found) == 1


def test_slices_that_were_broken_off_end(tmp_path: Path) -> None:
    """As where an error or the loss of a rank leaves a layer, a phase and a step in their midst."""
    forward, first = marks._PHASE_CODES[FORWARD], marks.FIRST_LAYER
    for codes in (
        [marks.STEP_BEGIN, forward, first, first],
        [marks.LAYER_END, forward, first, forward, marks.STEP_END],
    ):
        noted = Marks(np.array(codes), np.arange(len(codes)) * 1.0, np.array([[0, 1, 1]]))
        write_trace(tmp_path / "trace", [RankTrace(0, "a", noted, noted, np.zeros((1, 3)))], ["layer"], {})
        assert slices(read(tmp_path / "trace"))


# ------------------------------------------------------------------------------------------------------------ clocks

AHEAD_S = 5.0


@pytest.fixture
def skewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock of rank 1 be ahead."""

    def now() -> float:
        return time.perf_counter() + AHEAD_S * (threading.current_thread().name == "rank 1")

    monkeypatch.setattr(clocks, "time", SimpleNamespace(perf_counter=now))


def compared(hosts: list[int]) -> list[RankClock]:
    def body(comm: ThreadCommunicator) -> RankClock:
        clock = RankClock()
        clock.compare(comm)
        return clock

    return run_threads(len(hosts), body, host_of_rank=hosts)


@pytest.mark.parametrize("hosts", [[0, 0, 0], [0, 1, 1]])
def test_another_clock_is_found_within_its_bounds(skewed: None, hosts: list[int]) -> None:
    first, other, third = compared(hosts)
    assert (first.ahead, first.error) == ([0.0], [0.0])
    assert abs(other.ahead[0] - AHEAD_S) <= other.error[0] < 1.0
    assert abs(third.ahead[0]) <= third.error[0] < 1.0 or third.ahead == [0.0]


def test_one_host_has_one_clock() -> None:
    assert [(clock.ahead, clock.error) for clock in compared([0, 0, 0])] == [([0.0], [0.0])] * 3


def test_a_new_first_rank_keeps_the_clock_of_the_one_before() -> None:
    def body(comm: ThreadCommunicator) -> float:
        clock = RankClock([0.0], [3.0], [0.0]) if comm.rank == 0 else RankClock()
        clock.compare(comm)
        return clock.ahead[-1]

    assert run_threads(2, body) == [3.0, 3.0]
