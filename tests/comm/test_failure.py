"""How a command ends, without a launcher: each way to fail gives one report and a code that is not 0."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.timing import WAIT_S, check_in_time

ROOT = Path(__file__).parents[2]
PRELUDE = """
import atexit, ctypes, os, signal, sys, threading, time
from hpcnn.comm import failure
from hpcnn.core.activity import FORWARD
from hpcnn.cli.parallel import run_parallel
from hpcnn.errors import DivergedError, JobError

class Bomb:
    def __del__(self):
        raise ZeroDivisionError("boom")

def in_thread(action):
    thread = threading.Thread(target=action, name="reader")
    thread.start()
    thread.join()

def body(comm):
    comm.activity.step, comm.activity.epoch = 7, 2
    comm.activity.enter(FORWARD)
"""
END = """
    return 0

sys.exit(run_parallel(body))
"""
PLACE = "phase forward, step 7 (epoch 2)"


def run(body: str) -> tuple[int, str, float]:
    """Return the exit code, the error output and the seconds of a command whose work is `body`."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + lines + END],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    return done.returncode, done.stderr, time.monotonic() - begin


FAILURES = {
    "exception": ("1 / 0", 1, "ZeroDivisionError: division by zero"),
    "exit as if done": ("sys.exit(0)", 1, "sys.exit(0) was called"),
    "exit": ("sys.exit(5)", 5, "sys.exit(5) was called"),
    "exit with a text": ("sys.exit('enough')", 1, "sys.exit('enough') was called"),
    "hard exit as if done": ("os._exit(0)", 1, "os._exit(0) was called"),
    "hard exit": ("os._exit(7)", 7, "os._exit(7) was called"),
    "interrupt": ("raise KeyboardInterrupt", 130, f", {PLACE}: interrupted\n"),
    "thread": ("in_thread(lambda: 1 / 0)", 1, "in thread 'reader': unexpected failure\nTraceback"),
    "hard exit in a thread": ("in_thread(lambda: os._exit(0))", 1, "os._exit(0) was called"),
    "exit handler": ("atexit.register(lambda: 1 / 0)", 1, "in <function body.<locals>.<lambda> at"),
    "bad input in an exit handler": (
        "def fail():\n    raise JobError('unknown key')\natexit.register(fail)",
        2,
        f", {PLACE}: unknown key",
    ),
    "exit in an exit handler": ("atexit.register(sys.exit, 0)", 1, "sys.exit(0) was called"),
    "hard exit in an exit handler": ("atexit.register(os._exit, 0)", 1, "os._exit(0) was called"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_is_reported_once_with_its_place(case: str) -> None:
    body, exit_code, words = FAILURES[case]
    code, said, _ = run(body)
    assert code == exit_code, said
    assert words in said
    assert said.count("hpcnn: error:") == 1, said
    head = next(line for line in said.splitlines() if "hpcnn: error:" in line)
    assert head.startswith("hpcnn: error: rank 0 on ")
    assert f", {PLACE}: " in head


def test_what_is_raised_on_purpose_is_one_line() -> None:
    code, said, _ = run("raise DivergedError('the loss is not finite')")
    assert (code, said) == (1, "hpcnn: error: the loss is not finite\n")


@pytest.mark.parametrize(
    "body",
    [
        "in_thread(lambda: sys.exit(3))",
        "Bomb()",
        "if not os.fork():\n    os._exit(3)\nos.wait()",
        "if not os.fork():\n    in_thread(lambda: 1 / 0)\n    os._exit(3)\nos.wait()",
    ],
    ids=["a thread that ends", "a destructor", "a child that leaves", "a child whose thread fails"],
)
def test_what_is_no_failure(body: str) -> None:
    code, said, _ = run(body)
    assert code == 0, said
    assert "hpcnn: error:" not in said


def test_a_segmentation_fault_shows_the_stack() -> None:
    code, said, _ = run("ctypes.string_at(0)")
    assert code == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in said
    assert "in body" in said


def test_what_fails_on_the_way_out_does_not_change_the_exit_code() -> None:
    code, said, _ = run("atexit.register(lambda: 1 / 0)\nraise JobError('unknown key')")
    assert code == 2, said
    assert said.count("hpcnn: error:") == 1


HANGS = {
    "thread": "threading.Thread(target=time.sleep, args=(600,)).start()",
    "exit handler": "atexit.register(time.sleep, 600)",
    "thread after a failure": "threading.Thread(target=time.sleep, args=(600,)).start()\n1 / 0",
}


@pytest.mark.timed
@pytest.mark.parametrize("hang", HANGS)
def test_a_process_that_does_not_exit_is_ended(hang: str) -> None:
    code, said, seconds = run(f"failure._EXIT_S = 1.0\n{HANGS[hang]}")
    assert code == 1, said
    assert "Timeout (0:00:01)!" in said
    check_in_time(seconds, 10)


def test_a_failure_while_another_is_reported_adds_no_report() -> None:
    code, said, _ = run(
        "write = sys.stderr.write\n"
        "def slow(text):\n"
        "    time.sleep(0.5)\n"
        "    return write(text)\n"
        "sys.stderr.write = slow\n"
        "for _ in range(3):\n"
        "    threading.Thread(target=lambda: 1 / 0).start()\n"
        "time.sleep(60)"
    )
    assert code == 1
    assert said.count("hpcnn: error:") == 1, said
