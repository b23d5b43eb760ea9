"""The control groups that this process is in, where Linux keeps the limits of containers and batch jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def groups_of(controller: str, root: Path = Path("/")) -> Iterator[tuple[str, Path]]:
    """Yield name and folder of each control group of this process for `controller`, from its own up to the root.

    In a container the files may name a group by its path on the host, of which only the top exists: the container's
    own. `root` is where the file system starts.
    """
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        hierarchy = controller if controllers else ""  # version 2 has one, without a name
        top = root / "sys/fs/cgroup" / hierarchy
        own = PurePosixPath(path)
        for group in (own, *own.parents):
            yield str(group), top / str(group).lstrip("/")


def read_text(path: Path) -> str:
    """Return the text of a file of the system, or nothing if it can't be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
