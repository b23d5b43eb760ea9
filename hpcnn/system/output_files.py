"""Files at paths that a user has named, which may be links, devices, pipes or standard streams."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hpcnn.system.atomic import atomic_path, temporary_path
from hpcnn.system.output import ERROR, OUT, output


@contextmanager
def output_path(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, whose content is at `path` after the block.

    A link is followed, and the file behind it is replaced as by `atomic_path`. What is not a file is not replaced: a
    device, a pipe or a standard stream of this process, wherever it leads, is written to.
    """
    if not _is_written_to(path):
        with atomic_path(_target(path)) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="hpcnn-") as folder:
        temporary = Path(folder, path.name)
        yield temporary
        with temporary.open("rb") as source, open(_opened(path), "wb") as target:
            shutil.copyfileobj(source, target)


def check_output_path(path: Path) -> None:
    """Raise the OSError that writing to `path` would raise; leave nothing there."""
    if not _is_written_to(path):
        temporary = temporary_path(_target(path))
        temporary.touch()
        temporary.unlink(missing_ok=True)
    elif not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _target(path: Path) -> Path:
    """Return the path behind links, which need not exist."""
    return Path(os.path.realpath(path))


def _is_written_to(path: Path) -> bool:
    """Return whether what is at `path` is written to, and not replaced."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return _stream(status) is not None or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode))


def _opened(path: Path) -> int:
    """Return a descriptor to write to what is at `path`; to open a standard stream again could empty its file."""
    stream = _stream(path.stat())
    if stream is None:
        return os.open(path, os.O_WRONLY)
    for name in (OUT, ERROR):
        output(name).flush()
    return os.dup(stream)


def _stream(status: os.stat_result) -> int | None:
    """Return the descriptor of standard output or standard error, if that is what has the status."""
    for descriptor in (1, 2):
        with suppress(OSError):  # it is closed
            if os.path.samestat(status, os.fstat(descriptor)):
                return descriptor
    return None
