from types import SimpleNamespace

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.core.stop_request import StopRequest
from hpcnn.job.load import LoadedJob
from hpcnn.runs import session, walltime
from hpcnn.runs.walltime import WallTime
from tests.small_jobs import make_job

BEGIN = 1000.0


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=BEGIN)
    monkeypatch.setattr(walltime, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def train(clock, wall, *, step_s, save_s, every=0):
    """Take steps until the time is up, with a checkpoint after each `every` and a last one; return the seconds."""
    steps = 0
    while not wall.time_is_up():
        clock.now += step_s
        steps += 1
        if every and steps % every == 0:
            clock.now += save_s
        assert steps < 100_000
    clock.now += step_s + save_s  # a stop request takes effect after one more step
    return clock.now - BEGIN


@pytest.mark.parametrize("save_s", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("every", [0, 1, 7])
@pytest.mark.parametrize("step_s", [0.01, 3.7, 40.0])
def test_the_last_checkpoint_is_complete_in_time_and_little_is_left(clock, save_s, every, step_s):
    wall = WallTime(600, BEGIN, state_bytes=0, save_seconds=lambda: save_s)
    took = train(clock, wall, step_s=step_s, save_s=save_s, every=every)
    assert took <= 600
    assert took > 600 - 3 * (step_s + save_s) - 2


def test_a_first_save_is_judged_by_its_size(clock):
    """2 GB at 100 MB/s, with a margin of one half and a second."""
    wall = WallTime(600, BEGIN, state_bytes=2e9, save_seconds=lambda: None)
    clock.now = BEGIN + 568.9
    assert not wall.time_is_up()
    wall = WallTime(600, BEGIN, state_bytes=2e9, save_seconds=lambda: None)
    clock.now = BEGIN + 569.1
    assert wall.time_is_up()


def test_a_later_save_by_the_last_one(clock):
    seconds = [None]
    wall = WallTime(600, BEGIN, state_bytes=40e9, save_seconds=lambda: seconds[0])
    assert wall.time_is_up()
    seconds[0] = 2.0
    assert not wall.time_is_up()


def test_the_set_up_counts(clock):
    clock.now = BEGIN + 601
    assert WallTime(600, BEGIN, state_bytes=0, save_seconds=lambda: 0.0).time_is_up()


@pytest.mark.parametrize("minutes", [0, 60])
def test_without_a_limit_there_is_no_clock_to_ask_in_each_step(tmp_path, minutes):
    stop = StopRequest()
    job = make_job(run={"display": "none", "max_minutes": minutes})
    session.train(
        LoadedJob(job, tmp_path, tmp_path), SerialCommunicator(), out=tmp_path / "run", resume="never", stop=stop
    )
    assert stop.reason is None
    assert isinstance(stop.clock, WallTime) if minutes else stop.clock is None
