"""Files of data copied to a disk of each node before the training, and removed after it."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import msgspec

from hpcnn.comm.collectives import gather_or_raise
from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SET_UP
from hpcnn.core.formatting import approximate_size
from hpcnn.data.files import files_in, folder_on_disk, is_pattern, paths_of
from hpcnn.data.source import places
from hpcnn.errors import DataError
from hpcnn.job.data import DataSection
from hpcnn.system.processes import Process

_NEW, _PREFIX, _OWNERS = ".hpcnn-new-", "hpcnn-stage-", "owners.json"
_THREADS = 4
_BLOCK = 2**24
Copies = list[tuple[Path, Path]]
"""Files, each with where its copy is to be, relative to the folder of all copies."""

_made: list[Path] = []
"""What this process has to remove."""


def staged(section: DataSection, base: Path, comm: Communicator) -> DataSection:
    """Return the section with its files copied to the folder `section.stage` of each node. Collective, within `agree`.

    The first rank of a node copies; `unstage` removes the copies. What killed jobs left there is removed first.

    Raises:
        DataError: there is no such folder, it has too little room, or a copy differs from its file.
    """
    if not section.stage:
        return section
    owners = [process for host, process in gather_or_raise(comm, (comm.host, Process.own())) if host == comm.host]
    settings: dict[str, str] | None = None
    if comm.local_rank == 0:
        settings = _copied(section, base, owners, comm)
    found = gather_or_raise(comm, (comm.host, settings))
    own = next(settings for host, settings in found if host == comm.host and settings is not None)
    return msgspec.structs.replace(section, **own)


def unstage() -> None:
    """Remove the copies that this process made."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)


def _copied(section: DataSection, base: Path, owners: list[Process], comm: Communicator) -> dict[str, str]:
    """Copy the files, and return the settings that name the copies."""
    folder = folder_on_disk("stage", section.stage, comm.host)
    _remove_leftovers(folder)
    try:
        settings, copies = _plan(section, base)
        _check_room(section.stage, folder, copies, comm.host)
        root = _claimed(folder, owners)
        _copy_all(copies, root, partial(comm.activity.enter, SET_UP))
    except OSError as error:
        unstage()
        raise DataError(
            f"data.stage = {section.stage!r}: copying to {folder} on {comm.host} failed: {error.strerror or error}. "
            'Give another folder, or leave the files where they are: data.stage = "".'
        ) from None
    return {setting: str(root / place) for setting, place in settings.items()}


def _remove_leftovers(folder: Path) -> None:
    """Remove the copies of jobs on this node of which no process is left."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError, TypeError):
            owners = [Process(**owner) for owner in json.loads((path / _OWNERS).read_text())]
            if all(owner.is_dead() for owner in owners):
                shutil.rmtree(path, ignore_errors=True)


def _plan(section: DataSection, base: Path) -> tuple[dict[str, str], Copies]:
    """Return the settings that change, with places in the folder of all copies, and what is to be copied there."""
    settings: dict[str, str] = {}
    copies: Copies = []
    for number, (setting, paths) in enumerate(paths_of(section, base, whole_folder=True)):
        given = getattr(section, setting)
        top = Path(str(number))
        if len(paths) == 1 and not is_pattern(given):
            settings[setting] = str(top / paths[0].name)
            copies += [(file, top / file.relative_to(paths[0].parent)) for file in files_in(paths[0])]
            continue
        start, rest = _split_pattern(given, base, paths[0])
        settings[setting] = str(top / rest)
        copies += [(file, top / file.relative_to(start)) for file in paths]
    return settings, copies


def _split_pattern(pattern: str, base: Path, found: Path) -> tuple[Path, Path]:
    """Return the folder that a pattern names, and the rest of it; `found` is a file that matches it."""
    for place in places(pattern, base):
        first = next(number for number, part in enumerate(place.parts) if is_pattern(part))
        start = Path(*place.parts[:first])
        if found.is_relative_to(start):
            return start, Path(*place.parts[first:])
    raise AssertionError("a file that no place of the pattern matches")


def _check_room(stage: str, folder: Path, copies: Copies, host: str) -> None:
    needed, free = sum(file.stat().st_size for file, _ in copies), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"data.stage = {stage!r}: the files take {approximate_size(needed)}, but {folder} on {host} has only "
            f'{approximate_size(free)} left. Give another folder, or leave the files where they are: data.stage = "".'
        )


def _claimed(folder: Path, owners: list[Process]) -> Path:
    """Return a new folder that says whose it is from its beginning."""
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=folder))
    (new / _OWNERS).write_text(json.dumps([asdict(owner) for owner in owners]))
    root = new.with_name(new.name.replace(_NEW, _PREFIX))
    new.rename(root)
    if not _made:
        atexit.register(unstage)
    _made.append(root)
    return root


def _copy_all(copies: Copies, root: Path, beat: Callable[[], object]) -> None:
    for _, place in copies:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(lambda copy: _copy(copy[0], root / copy[1], beat), copies):
            beat()


def _copy(file: Path, place: Path, beat: Callable[[], object]) -> None:
    """Copy a file. DataError: the copy does not hold what was read."""
    sha256 = hashlib.sha256()
    with file.open("rb") as source, place.open("xb") as target:
        while block := source.read(_BLOCK):
            sha256.update(block)
            target.write(block)
            beat()
    with place.open("rb") as copied:
        if hashlib.file_digest(copied, "sha256").digest() != sha256.digest():
            raise DataError(f"the copy of {file} in {place} differs from it: the disk may be faulty. Stage elsewhere.")
