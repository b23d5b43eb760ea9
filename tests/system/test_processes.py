from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

from hpcnn.system.processes import Process


def test_what_becomes_of_a_process() -> None:
    own = Process.own("here")
    assert own.host == "here"
    assert own.namespace
    assert own.state() == ""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        other = Process.near(child.pid)
        assert other.state() == ""
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert other.state() == f"its process {child.pid} is stopped"
        assert replace(other, boot="another").state() == ""
        assert replace(other, namespace="pid:[1]").state() == ""
        assert replace(other, start="1").state() == f"its process {child.pid} is gone", "another got its number"
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert other.state() == f"its process {child.pid} has ended"
    child.wait()
    assert other.state() == f"its process {child.pid} is gone"
