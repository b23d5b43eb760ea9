"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

_TEMPORARY = re.compile(r"\.(.+)\.\d+(-[0-9a-f]+)?\.tmp")

_syncs = ContextVar("syncs", default=True)


@contextmanager
def unsynced() -> Iterator[None]:
    """Sync nothing in this thread within the block: for files that are deleted at its end."""
    token = _syncs.set(False)
    try:
        yield
    finally:
        _syncs.reset(token)


def sync(descriptor: int) -> None:
    """Sync an open file or folder, unless within `unsynced`."""
    if _syncs.get():
        os.fsync(descriptor)


@contextmanager
def atomic_path(
    path: Path, also: Sequence[Path] = (), *, synced: bool = False, sync_folder: bool = True
) -> Iterator[Path]:
    """Yield a temporary path beside `path`; after the block its file is synced and replaces `path` in one step.

    If the block raises, `path` stays as it was.

    Args:
        path: the file.
        also: more names of the file in the same folder. It takes them before `path`, one after the other, each in one
            step: as hard links, or as copies where there are none.
        synced: whether the block syncs the file itself.
        sync_folder: whether the folder is synced at the end, so that the names last; if not, the caller writes another
            file into it next, which does so.
    """
    temporary = temporary_path(path)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # by the umask; some writers set another one
        yield temporary
        temporary.chmod(mode)
        if not synced:
            _sync_path(temporary, os.O_RDWR)
        for name in also:
            _link(temporary, name)
        os.replace(temporary, path)  # noqa: PTH105 - the name of the guarantee
        if sync_folder:
            _sync_path(path.parent, os.O_RDONLY)
    finally:
        with suppress(OSError):  # the first error tells more
            temporary.unlink()


def write_text(path: Path, text: str, *, sync_folder: bool = True) -> None:
    """Write `text` to `path`, whole or not at all; see `atomic_path`."""
    with atomic_path(path, sync_folder=sync_folder) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _link(path: Path, name: Path) -> None:
    """Give the synced file at `path` another `name` in one step."""
    temporary = temporary_path(name)
    try:
        try:
            temporary.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, temporary)  # raises if the folder is the problem
            _sync_path(temporary, os.O_RDWR)
        os.replace(temporary, name)  # noqa: PTH105 - as above
    finally:
        with suppress(OSError):
            temporary.unlink()


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


def _sync_path(path: Path, flags: int) -> None:
    """Sync a file, or the names in a folder, which can only be opened for reading."""
    descriptor = os.open(path, flags)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
