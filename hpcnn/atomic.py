"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; what was written there is synced and takes its place in one step.

    If the block raises, `path` is as it was before.
    """
    temporary = _temporary(path)
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
    temporary = _temporary(path)
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


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that writers left which were killed; none may be at work."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
