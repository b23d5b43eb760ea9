from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hpcnn.runs.thread_probe import ActivityProbe, is_within, stacks
from tests.timing import WAIT_S, wait_until


def test_probe() -> None:
    probe = ActivityProbe()
    time.sleep(0.2)
    assert not probe.was_active(0.2)
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    assert probe.was_active(0.2)
    assert not probe.was_active(0.2)
    with Path(os.devnull).open("wb", buffering=0) as file:
        file.write(bytes(100_000))
    assert probe.was_active(1.0)
    assert not probe.was_active(1.0)


def test_time_without_a_core_is_no_idleness() -> None:
    probe = ActivityProbe()
    waits = iter([3.0, 5.0])
    probe._queued_total_s = lambda: next(waits)  # type: ignore[method-assign]
    probe._waited_s = 1.0
    probe._cpu_s -= 0.01
    assert probe.was_active(2.1), "a tenth of a second was there to compute in, and it did"
    assert probe.queued_s == 2.0
    assert not probe.was_active(4.0)


def test_whose_call_a_thread_is_in() -> None:
    lock = threading.Lock()
    namespace: dict[str, Any] = {"__name__": "hpcnn.comm.exchange.transport", "lock": lock, "there": []}
    exec("def call():\n    there.append(1)\n    with lock:\n        pass", namespace)

    def elsewhere() -> None:
        namespace["there"].append(2)
        with lock:
            pass

    inside, outside = threading.Thread(target=namespace["call"]), threading.Thread(target=elsewhere)
    lock.acquire()
    for thread in (inside, outside):
        thread.start()
    wait_until(lambda: len(namespace["there"]) == 2)
    assert is_within(inside.ident, "hpcnn.comm")
    assert is_within(inside.ident, "hpcnn")
    assert not is_within(inside.ident, "hpcnn.com")
    assert not is_within(inside.ident, "hpcnn.training")
    assert not is_within(outside.ident, "hpcnn.comm")
    lock.release()
    for thread in (inside, outside):
        thread.join()
    assert not is_within(inside.ident, "hpcnn.comm")  # it has ended


def stacks_seen_from_elsewhere() -> list[str]:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(stacks()))
    thread.start()
    thread.join()
    return found


def test_stacks_name_the_threads() -> None:
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, name=name) for name in ("exchange", "signals")]
    for thread in threads:
        thread.start()
    text = stacks_seen_from_elsewhere()[0]
    done.set()
    for thread in threads:
        thread.join()
    heads = [line for line in text.splitlines() if not line.startswith("  ")]
    assert heads[0] == "MainThread (most recent call first):"
    # Other tests may have left threads behind.
    assert {"exchange (most recent call first):", "signals (most recent call first):"} <= set(heads[1:])


COLLECTING = """
import gc, threading
from hpcnn.core.activity import thread_frames

class Cycle:
    def __init__(self):
        self.me, self.local = self, threading.local()
        self.local.value = 1

def look_from(depth):
    return look_from(depth - 1) if depth else thread_frames()

gc.disable()
for threshold in range(1, 60):  # one of them has a collection begin while frames are made
    gc.collect()
    for _ in range(3):
        Cycle()
    gc.set_threshold(threshold)
    gc.enable()
    look_from(5)
    assert gc.isenabled()
    gc.disable()
    look_from(5)
    assert not gc.isenabled()
"""


def test_looking_at_threads_stops_none_of_them() -> None:
    """A collection in the midst of it would, where it comes upon a `threading.local`, before Python 3.12."""
    subprocess.run([sys.executable, "-c", COLLECTING], check=True, timeout=WAIT_S)
