"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\.(.+)\.\d+(-[0-9a-f]+)?\.tmp")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there is synced and takes its place in one step.

    If the block raises, `path` is as it was before.
    """
    temporary = temporary_path(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask wants it; some writers set their own
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the name of the guarantee
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # of what went wrong, the first tells more
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_place(path: Path) -> None:
    """Raise the OSError that writing to `path` would, before it is worth anything; leave nothing there."""
    temporary = temporary_path(path)
    temporary.touch()
    temporary.unlink(missing_ok=True)


def link(path: Path, name: Path) -> None:
    """Give the synced file at `path` another `name` in one step: a hard link, or a copy where there are no links."""
    with atomic_path(name) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, temporary)  # raises by itself where the folder is the trouble


def remove_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the temporary files that writers left which were killed.

    Args:
        folder: where they lie.
        names: of the files that were to be written; None for all. Nobody else may be writing any of them.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and (names is None or found[1] in names):
                path.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a path beside `path` that no other writer has, be it of another host or another thread."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
