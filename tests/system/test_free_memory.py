"""How much memory may still be taken, on machines that are made up."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from hpcnn.system.free_memory import free_memory

MEMINFO = {"proc/meminfo": "MemTotal:  900 kB\nMemFree:  100 kB\nMemAvailable:  500 kB\n"}
KB = 1024


def groups(lines: str, **limits: tuple[object, object, object]) -> dict[str, str]:
    """Return the files of control groups of version 2; `job__step` is /job/step, and `root` is /."""
    files = {"proc/self/cgroup": lines}
    for name, (limit, use, cached) in limits.items():
        folder = "sys/fs/cgroup/" + ("" if name == "root" else name.replace("__", "/") + "/")
        files |= {f"{folder}memory.max": f"{limit}\n", f"{folder}memory.current": f"{use}\n"}
        files |= {f"{folder}memory.stat": f"anon 7\ninactive_file {cached}\nfile 9\n"}
    return files


V1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/other\n4:memory:/job\n0::/\n",
    "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "30000\n",
    "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "21000\n",
    "sys/fs/cgroup/memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 1000\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "99\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMINFO, 500 * KB),
        (MEMINFO | groups("0::/job\n", job=("max", 100, 0)), 500 * KB),
        (MEMINFO | groups("0::/job\n", job=(9000, 2000, 0)), 7000),
        (MEMINFO | groups("0::/job\n", job=(9000, 2000, 500)), 7500),  # what only caches files makes room
        (MEMINFO | groups("0::/job/step\n", job=(9000, 2000, 0), job__step=("max", 100, 0)), 7000),
        (MEMINFO | groups("0::/job/step\n", job=(9000, 2000, 0), job__step=(4000, 1000, 0)), 3000),
        (MEMINFO | groups("0::/elsewhere\n", root=(6000, 5000, 0)), 1000),  # a container sees its own as the root
        (MEMINFO | groups("0::/job\n", job=(9000, 9500, 0)), 0),
        (MEMINFO | groups("0::/job\n", job=(10**9, 0, 0)), 500 * KB),
        (groups("0::/job\n", other=(9000, 2000, 0)), None),
        (V1, 10000),
        ({"proc/meminfo": "nonsense", "proc/self/cgroup": "nonsense"}, None),
    ],
)
def test_the_tightest_limit_counts(tmp_path: Path, files: dict[str, str], free: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == free


def test_the_limit_of_the_address_space_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "statm").write_text("3 2 1 1 0 1 0\n")
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO["proc/meminfo"])
    for pages, left in ((10, 7), (2, 0)):
        limit = pages * resource.getpagesize()
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, limit=limit: (limit, limit))
        assert free_memory(tmp_path) == left * resource.getpagesize()


def test_this_machine_has_some() -> None:
    assert (free_memory() or 0) > 10**6
