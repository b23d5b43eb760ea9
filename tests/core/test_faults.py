from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hpcnn.core import faults
from hpcnn.core.activity import BACKWARD, DATA, FORWARD, OTHER, SAVE, SET_UP, Activity
from hpcnn.core.faults import FaultError, InjectedError, Injector, read
from tests.timing import WAIT_S, check_in_time, wait_until


@pytest.fixture(autouse=True)
def none_left():
    yield
    faults.start("", 0, 1, Activity())


def places(text: str, rank: int = 0, ranks: int = 4, *, steps: int = 3) -> list[tuple[int, str]]:
    """Return step and phase of each exception that is injected."""
    activity, found = Activity(), []
    activity.phase = OTHER
    faults.start(text, rank, ranks, activity)
    for activity.step in range(1, steps + 1):
        for phase in (DATA, FORWARD, BACKWARD, DATA, FORWARD, BACKWARD):
            try:
                activity.enter(phase)
            except InjectedError:
                found.append((activity.step, phase))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise step=1", [(1, DATA)]),
        ("raise step=2", [(2, DATA)]),
        ("raise step=2 phase=backward", [(2, BACKWARD)]),
        ("raise phase=backward,forward", [(1, FORWARD)]),
        ("raise step=2 phase=forward count=2", [(2, FORWARD)]),
        ("raise phase=forward count=5", [(3, FORWARD)]),
        ("raise step=2 phase=forward count=3", []),
        ("raise step=2-3 phase=data count=0", [(2, DATA), (2, DATA), (3, DATA), (3, DATA)]),
        ("raise step=1 phase=forward; raise step=3 phase=data", [(1, FORWARD), (3, DATA)]),
        ("raise rank=0 step=2", [(2, DATA)]),
        ("raise rank=* step=2", [(2, DATA)]),
        ("raise rank=1,3 step=2", []),
        ("raise phase=save", []),
        ("", []),
        (" ; ", []),
    ],
)
def test_when_a_fault_befalls_whom(text: str, expected: list) -> None:
    assert places(text) == expected


def test_the_other_ranks_of_several() -> None:
    assert [rank for rank in range(4) if places("raise rank=1,3 step=2", rank)] == [1, 3]


def test_the_present_phase_counts() -> None:
    with pytest.raises(InjectedError, match="raise phase=set-up"):
        faults.start("raise phase=set-up", 0, 1, Activity())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kil rank=1", r"unknown action in HPCNN_FAULT 'kil'. Did you mean 'kill'\? Known: corrupt-checkpoint, "),
        ("kill rnk=1", r"unknown key of 'kill' in HPCNN_FAULT 'rnk'. Did you mean 'rank'\? Known: after_s, count, "),
        ("kill seconds=1", "unknown key of 'kill'"),
        ("hang after_s=1", "unknown key of 'hang'"),
        ("kill phase=forwards", r"unknown phase in HPCNN_FAULT 'forwards'. Did you mean 'forward'\?"),
        ("signal name=USR3", r"unknown signal in HPCNN_FAULT 'USR3'. Did you mean 'USR\d'\?"),
        ("kill rank=4", "HPCNN_FAULT: rank=4, but there are 4 ranks, numbered from 0"),
        ("kill rank=1,9", "rank=1,9, but there are 4 ranks"),
        ("kill rank=one", r"rank=one is not understood. Give whole numbers, as rank=2, 1,3 or \*."),
        ("kill rank", "rank= is not understood"),
        ("kill rank=-1", "rank=-1 is not understood"),
        ("kill step=20-", "step= is not understood"),
        ("kill step=x", "step=x is not understood. Give whole numbers, as step=20 or 20-30."),
        ("kill step=30-20", "step=30-20 holds no step. Give the first and the last"),
        ("kill count=-1", "count=-1 is not understood"),
        ("kill after_s=soon", "after_s=soon is not understood. Give seconds, as after_s=0.5."),
        ("slow seconds=-1", "seconds=-1 is not understood"),
        ("slow seconds=nan", "seconds=nan is not understood"),
        ("kill step=1; hung", "unknown action in HPCNN_FAULT 'hung'"),
    ],
)
def test_what_makes_no_sense(text: str, message: str) -> None:
    with pytest.raises(FaultError, match=message) as caught:
        read(text, 4)
    assert caught.value.exit_code == 2


def test_slow_is_slow_each_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    activity = Activity()
    faults.start("slow phase=forward seconds=0.25", 0, 1, activity)
    for _ in range(3):
        activity.enter(FORWARD)
        activity.enter(BACKWARD)
    assert slept == [0.25] * 3
    assert capsys.readouterr().err.count("fault injected on rank 0 in phase forward: slow") == 1


def test_exit() -> None:
    for text, code in (("exit", 1), ("exit code=0", 0), ("exit code=7", 7)):
        with pytest.raises(SystemExit) as caught:
            faults.start(text, 0, 1, Activity())
        assert caught.value.code == code


def test_a_signal() -> None:
    came = []
    before = signal.signal(signal.SIGUSR2, lambda *_: came.append(True))
    try:
        faults.start("signal name=USR2", 0, 1, Activity())
        assert came == [True]
        faults.start("signal name=SIGUSR2", 0, 1, Activity())
        assert came == [True, True]
    finally:
        signal.signal(signal.SIGUSR2, before)


PROGRAM = """
import sys, threading, time
from hpcnn.core import faults
from hpcnn.core.activity import Activity, FORWARD
activity = Activity()
faults.start(sys.argv[1], 0, 1, activity)
print("started", flush=True)
timer = threading.Timer(0.2, lambda: print("a thread runs", flush=True))
timer.daemon = True
timer.start()
activity.enter(FORWARD)
time.sleep(float(sys.argv[2]))
print("came through", flush=True)
"""


def run(text: str, sleep_s: float = 30) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, text, str(sleep_s)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.timed
def test_kill_at_once_and_later() -> None:
    out, err = run("kill phase=forward").communicate(timeout=WAIT_S)
    assert out == "started\n"
    assert err == "hpcnn: fault injected on rank 0 in phase forward: kill phase=forward\n"
    begin = time.monotonic()
    process = run("kill phase=forward after_s=0.7")
    assert process.stdout.readline() == "started\n"
    assert process.wait(WAIT_S) == -signal.SIGKILL
    seconds = time.monotonic() - begin
    process.communicate()
    assert seconds > 0.5
    check_in_time(seconds, 10)


def test_an_exception_in_a_thread() -> None:
    out, err = run("raise after_s=0.1", 1).communicate(timeout=WAIT_S)
    assert "came through" in out
    assert "Exception in thread" in err
    assert "hpcnn.core.faults.InjectedError: asked for by HPCNN_FAULT: raise after_s=0.1" in err


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize(("text", "state"), [("hang", "S"), ("freeze", "S"), ("stop", "T")])
def test_what_never_ends(text: str, state: str) -> None:
    process = run(f"{text} phase=forward", 0)
    try:
        assert process.stdout.readline() == "started\n"
        assert process.stderr.readline().startswith("hpcnn: fault injected")
        wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == state)
        if text == "hang":
            assert process.stdout.readline() == "a thread runs\n"
        used = cpu_s(process.pid)
        time.sleep(0.6)
        assert process.poll() is None
        assert cpu_s(process.pid) - used < 0.1
    finally:
        process.kill()
        out, _ = process.communicate()
    assert "came through" not in out
    assert "a thread runs" not in out  # but for the one that hangs, of which that was read


def test_nothing_asked_for_costs_nothing() -> None:
    activity = Activity()
    faults.start("kill rank=1", 0, 2, activity)
    assert activity.on_enter is None

    def load(shard: int) -> tuple:
        raise AssertionError

    assert faults.loading(load) is load
    faults.writing(Path("/nonexistent"))
    faults.written(Path("/nonexistent"))


def test_nan_in_the_samples_of_one_step() -> None:
    activity = Activity()
    faults.start("nan rank=0 step=2", 0, 1, activity)

    def load(first: int, stop: int) -> tuple:
        """Give shard 0 no sample, and each later one as many as its number."""
        starts = np.cumsum([0, *range(first, stop)])
        return np.ones((starts[-1], 3), np.float32), np.zeros(starts[-1]), starts

    spoilt = faults.loading(load)
    for activity.step in (1, 2, 3):
        x, y, starts = spoilt(1, 3)
        assert np.isnan(x).sum() == (activity.step == 2)
        assert not y.any()
        assert starts.tolist() == [0, 1, 3]
    activity.step = 2
    assert spoilt(0, 1)[0].shape == (0, 3)  # an empty shard of the last batch
    for _ in range(2):  # whoever looks for it finds it again
        assert np.isnan(spoilt(1, 2)[0]).sum() == 1


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    activity, path = Activity(), tmp_path / "checkpoint"
    path.write_bytes(bytes(1000))
    faults.start("disk-full step=3", 0, 1, activity)
    activity.step = 3
    faults.writing(path)  # not in a save
    activity.step, activity.phase = 2, SAVE
    faults.writing(path)
    assert path.stat().st_size == 1000
    activity.step = 3
    with pytest.raises(OSError, match=str(path)) as caught:
        faults.writing(path)
    assert caught.value.errno == errno.ENOSPC
    assert path.stat().st_size == 500
    faults.writing(path)  # once
    assert path.stat().st_size == 500


def test_a_checkpoint_that_is_damaged(tmp_path: Path) -> None:
    activity, path = Activity(), tmp_path / "checkpoint"
    data = os.urandom(1000)
    path.write_bytes(data)
    faults.start("corrupt-checkpoint count=2", 0, 1, activity)
    activity.enter(SAVE)
    faults.written(path)
    assert path.read_bytes() == data
    faults.written(path)
    damaged = path.read_bytes()
    assert len(damaged) == 1000
    assert [at for at in range(1000) if damaged[at] != data[at]] == [666]


def test_faults_in_hooks_do_nothing_elsewhere() -> None:
    injector = Injector(read("nan; disk-full; corrupt-checkpoint", 1), 0)
    activity = Activity()
    injector.follow(activity)
    for phase in (SAVE, DATA, SET_UP):
        activity.enter(phase)
    assert [fault.met for fault in injector.faults] == [0, 0, 0]
