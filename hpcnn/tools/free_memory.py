"""How much memory a process may still take: from the machine and from its control groups.

Reading never fails: what can't be read sets no limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNTS = {"": "", "memory": "memory"}
"""Folder of the control groups by the name of their controllers: version 2 has one hierarchy, without a name."""

_NAMES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of the limit and of the use, and what of it only caches files; in versions 2 and 1."""


def free_memory(root: Path = Path("/")) -> int | None:
    """Return how many bytes can still be taken, or None if nothing says so.

    `root` is where the file system starts.
    """
    amounts = list(_in_groups(root))
    available = re.search(r"^MemAvailable:\s*(\d+) kB", _read(root / "proc/meminfo"), re.MULTILINE)
    if available:
        amounts.append(int(available[1]) * 1024)
    return min(amounts, default=None)


def _in_groups(root: Path) -> Iterator[int]:
    """Yield what each control group that the process is in leaves, from its own up to the root."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in _MOUNTS:
            continue
        own = PurePosixPath(path)
        for group in (own, *own.parents):
            left = _left(root / "sys/fs/cgroup" / _MOUNTS[controllers] / str(group).lstrip("/"))
            if left is not None:
                yield left


def _left(group: Path) -> int | None:
    """Return the control group's limit less its use, or None if it has no limit."""
    for limit_name, use_name, cache_name in _NAMES:
        limit, use = _read(group / limit_name), _read(group / use_name)
        if limit.isdecimal() and use.isdecimal():  # no limit reads "max"
            cached = re.search(rf"^{cache_name} (\d+)$", _read(group / "memory.stat"), re.MULTILINE)
            return max(0, int(limit) - int(use) + (int(cached[1]) if cached else 0))
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
