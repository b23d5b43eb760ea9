"""What a folder's file system is and can do; as a program it tells in JSON.

A network file system whose server is gone keeps whoever asks it for ever. So the doctor lets another process ask.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from hpcnn.system.control_groups import read_text
from hpcnn.tools.doctor.evidence import FileSystem
from hpcnn.tools.doctor.timed_command import package_environment, run_timed

_WRITTEN = 4096


def probe_file_system(folder: Path, limit_s: float, marker: str = "", *, writes: bool = True) -> FileSystem:
    """Return what a folder's file system can do, or that it did not answer in time.

    `marker` names a file to leave there; with `writes`, try what only writing shows.
    """
    command = [sys.executable, "-P", "-m", __name__, str(folder), marker, "write" if writes else "read"]
    answer = run_timed(command, limit_s, package_environment(os.environ))
    if answer.code == 0:
        with suppress(msgspec.DecodeError):
            return msgspec.json.decode(answer.out, type=FileSystem)
    return FileSystem(str(folder), trouble=answer.trouble or "no answer")


def try_file_system(folder: Path, marker: str = "", *, writes: bool = True) -> FileSystem:
    """Return what the folder's file system is and can do, by trying it; nothing but the marker is left there."""
    there = existing(folder)
    space = os.statvfs(there)
    mount, kind = mount_of(there, read_text(Path("/proc/self/mountinfo")))
    found = FileSystem(
        str(there),
        kind,
        mount,
        space.f_bavail * space.f_frsize,
        space.f_favail if space.f_files else None,
    )
    if not writes:
        return found
    try:
        if marker:
            (there / marker).touch()
            found = replace(found, marker=marker)  # also of a trial that fails: it is to be removed
        return _try_out(there, found)
    except OSError as error:
        return replace(found, trouble=error.strerror or str(error))


def _try_out(folder: Path, found: FileSystem) -> FileSystem:
    with tempfile.TemporaryDirectory(dir=folder, prefix=".hpcnn-doctor-") as scratch:
        old, new = Path(scratch, "old"), Path(scratch, "new")
        old.write_bytes(b"old")
        begin = time.perf_counter()
        with new.open("wb") as file:
            file.write(bytes(_WRITTEN))
            file.flush()
            os.fsync(file.fileno())
        fsync_s = time.perf_counter() - begin
        new.replace(old)
        renames = old.stat().st_size == _WRITTEN and not new.exists()
        return replace(found, renames=renames, locks=_locks(old), fsync_s=fsync_s)


def _locks(path: Path) -> bool:
    """Return whether a file can be locked as HDF5 does it."""
    with path.open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def unshared(folder: str, markers: Mapping[str, str], limit_s: float) -> list[str]:
    """Return the hosts whose markers are not in a folder of this host."""
    names = run_timed(["ls", "-A", folder], limit_s).out.splitlines()
    return [host for host, marker in markers.items() if marker not in names]


def remove_marker(folder: FileSystem, limit_s: float) -> None:
    """Remove what `probe_file_system` has left."""
    if folder.marker:
        run_timed(["rm", "-f", str(Path(folder.folder, folder.marker))], limit_s)


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that there is."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    r"""Return where the file system of a path is mounted and its kind, given the text of /proc/self/mountinfo.

    >>> mount_of(Path("/home/a"), "22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 0:4 / /home rw - nfs4 server:/home rw")
    ('/home', 'nfs4')
    """
    kinds = {}
    for line in mounts.splitlines():
        found = re.match(r"\S+ \S+ \S+ \S+ (\S+) .* - (\S+) ", line + " ")
        if found:
            kinds[re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), found[1])] = found[2]
    where = path.resolve()
    places = (str(place) for place in (where, *where.parents))
    return next(((place, kinds[place]) for place in places if place in kinds), ("", "unknown"))


if __name__ == "__main__":
    sys.stdout.buffer.write(
        msgspec.json.encode(try_file_system(Path(sys.argv[1]), sys.argv[2], writes=sys.argv[3] == "write"))
    )
