"""The compiled module and its sources: where they are, and when they were changed."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent
MODULE = FOLDER / "core.abi3.so"


def newest_source() -> int:
    """Return when the youngest source was changed, in ns; 0 in an installed package, which has no sources."""
    with os.scandir(FOLDER) as entries:
        sources = [entry for entry in entries if entry.name.endswith((".c", ".h", ".def", "CMakeLists.txt"))]
    return max((source.stat().st_mtime_ns for source in sources), default=0)


def built() -> int:
    """Return the time of the sources that the module was built from, in ns; 0 if there is none."""
    try:
        return MODULE.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
