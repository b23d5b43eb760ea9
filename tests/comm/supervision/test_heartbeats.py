from __future__ import annotations

import os
import signal
import subprocess
import sys

from hpcnn.comm.supervision.heartbeats import Process, Status


def test_a_status_is_of_one_size() -> None:
    short, long = Status(1, 2, "phase data", ""), Status(2**40, 2, "x" * 100, "ü" * 40)
    assert len(short.pack()) == len(long.pack())
    assert Status.unpack(short.pack()) == short
    assert Status.unpack(long.pack()).place == "x" * 64


def test_what_becomes_of_a_process() -> None:
    own = Process.own("here")
    assert own.namespace
    assert own.state(own) == ""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        other = Process("here", child.pid, own.namespace)
        assert other.state(own) == ""
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert other.state(own) == f"its process {child.pid} is stopped"
        assert Process("there", child.pid, own.namespace).state(own) == ""
        assert Process("here", child.pid, "pid:[1]").state(own) == ""
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert other.state(own) == f"its process {child.pid} has ended"
    child.wait()
    assert other.state(own) == f"its process {child.pid} is gone"
