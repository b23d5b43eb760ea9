"""What `/proc` says of processes. This imports little, so that a small process can use it."""

from __future__ import annotations

import os
from contextlib import suppress


def stat_of(process: int) -> list[str]:
    """Return the fields of a process's `stat` from its state on; nothing if it is gone."""
    try:
        with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is slow
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def state_of(process: int) -> str:
    """Return the letter of a process's state; Z, as of one that has ended, if it is gone."""
    return (stat_of(process) or "Z")[0]


def parent_of(process: int) -> int:
    """Return the process that started another one, or took it over; 1 if that is gone."""
    return int((stat_of(process) or "Z1")[1])


def start_time(process: int) -> int:
    """Return when a process began, in ticks; 0 if it is gone or has ended. With its number, this identifies it."""
    fields = stat_of(process)
    return 0 if not fields or fields[0] in "ZX" else int(fields[19])


def name_of(process: int) -> str:
    """Return the name of a process's program; empty if it is gone."""
    with suppress(OSError), open(f"/proc/{process}/comm", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        return file.read().strip()
    return ""


def variable_of(process: int, name: str) -> str | None:
    """Return a variable of the environment with which a process was started, if there is one to be seen."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:  # noqa: PTH123
            variables = file.read().split(b"\0")
    except OSError:
        return None
    start = f"{name}=".encode()
    return next((one[len(start) :].decode() for one in variables if one.startswith(start)), None)


def children_of(process: int) -> list[int]:
    """Return the processes that one has started, dead ones that it has not waited for included."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123
                found += map(int, file.read().split())
    return found
