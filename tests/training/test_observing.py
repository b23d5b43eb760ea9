from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from hpcnn.training.observing import Effort, is_within, stacks


def test_effort() -> None:
    effort = Effort()
    time.sleep(0.2)
    assert not effort.grew(0.2)
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    assert effort.grew(0.2)
    assert not effort.grew(0.2)
    with Path(os.devnull).open("wb", buffering=0) as file:
        file.write(bytes(100_000))
    assert effort.grew(1.0)
    assert not effort.grew(1.0)


def test_whose_call_a_thread_is_in() -> None:
    namespace: dict[str, Any] = {"__name__": "hpcnn.comm.links", "time": time}
    exec("def call():\n    time.sleep(0.3)", namespace)
    inside = threading.Thread(target=namespace["call"])
    outside = threading.Thread(target=lambda: time.sleep(0.3))
    for thread in (inside, outside):
        thread.start()
    time.sleep(0.1)
    assert is_within(inside.ident, "hpcnn.comm")
    assert is_within(inside.ident, "hpcnn")
    assert not is_within(inside.ident, "hpcnn.com")
    assert not is_within(inside.ident, "hpcnn.training")
    assert not is_within(outside.ident, "hpcnn.comm")
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
