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
    """Yield a temporary path beside `path`; after the block its file is synced and replaces `path` in one step.

    If the block raises, `path` stays as it was.
    """
    temporary = temporary_path(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the umask; some writers set another one
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - the name of the guarantee
        _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # the first error tells more
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_place(path: Path) -> None:
    """Raise the OSError that writing to `path` would raise; leave nothing there."""
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
            shutil.copyfile(path, temporary)  # raises if the folder is the problem


def remove_leftovers(folder: Path, names: Collection[str] | None = None) -> None:
    """Remove the temporary files of writers that were killed.

    Args:
        folder: where they are.
        names: those of the files that were to be written; None: of all. No other process may be writing them.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found and (names is None or found[1] in names):
                path.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a path beside `path` that no other writer uses, on any host or thread."""
    return path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
