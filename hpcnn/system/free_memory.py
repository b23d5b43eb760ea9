"""How much memory a process may still take: from the machine, from its control groups and from its own limit.

Reading never fails: what can't be read sets no limit.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

from hpcnn.system.control_groups import groups_of, read_text

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
    available = re.search(r"^MemAvailable:\s*(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    if available:
        amounts.append(int(available[1]) * 1024)
    amounts += _below_limit(root)
    return min(amounts, default=None)


def _below_limit(root: Path) -> Iterator[int]:
    """Yield what the limit of the process's address space (``ulimit -v``) leaves, if there is one."""
    limit, pages = resource.getrlimit(resource.RLIMIT_AS)[0], read_text(root / "proc/self/statm").split()
    if limit != resource.RLIM_INFINITY and pages:
        yield max(0, limit - int(pages[0]) * resource.getpagesize())


def _in_groups(root: Path) -> Iterator[int]:
    """Yield what each control group that the process is in leaves, from its own up to the root."""
    for _, folder in groups_of("memory", root):
        left = _left(folder)
        if left is not None:
            yield left


def _left(group: Path) -> int | None:
    """Return the control group's limit less its use, or None if it has no limit."""
    for limit_name, use_name, cache_name in _NAMES:
        limit, use = read_text(group / limit_name), read_text(group / use_name)
        if limit.isdecimal() and use.isdecimal():  # no limit reads "max"
            cached = re.search(rf"^{cache_name} (\d+)$", read_text(group / "memory.stat"), re.MULTILINE)
            return max(0, int(limit) - int(use) + (int(cached[1]) if cached else 0))
    return None
