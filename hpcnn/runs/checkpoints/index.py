"""The checkpoint files of a run: found, put in order, verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpcnn.errors import CheckpointError
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.state import Facts, facts_of
from hpcnn.storage.checkpoint import load_checkpoint, read_facts
from hpcnn.system.output import ERROR, write_line


@dataclass
class CheckpointFile:
    """One file, which may have several names."""

    paths: list[Path]
    facts: Facts | None = None
    """As its header has them; None if that is damaged."""
    trouble: str = ""
    """What is wrong with it, as far as is known."""

    @property
    def path(self) -> Path:
        """The first of its names."""
        return self.paths[0]

    @property
    def age(self) -> tuple[int, int]:
        """How far its training is."""
        progress = self.facts.progress if self.facts else None
        return (progress.epoch, progress.step_in_epoch) if progress else (-1, -1)

    def verify(self) -> str:
        """Read the whole file, and return what is wrong with it; empty if nothing is."""
        if not self.trouble:
            try:
                load_checkpoint(self.path)
            except CheckpointError as error:
                self.trouble = str(error)
        return self.trouble


def find_checkpoints(paths: Iterable[Path]) -> list[CheckpointFile]:
    """Return the files that are there, the newest state first; before it, those that do not tell how old they are."""
    files: dict[tuple[int, int], CheckpointFile] = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        key = status.st_dev, status.st_ino
        if key in files:
            files[key].paths.append(path)
            continue
        found = files[key] = CheckpointFile([path])
        try:
            found.facts = facts_of(read_facts(path))
        except CheckpointError as error:
            found.trouble = str(error)
    return sorted(files.values(), key=lambda found: (bool(found.trouble), found.age), reverse=True)


def newest_that_verifies(folder: RunFolder) -> Path | None:
    """Return the newest checkpoint of a run; None if it has none. Damaged ones are named on stderr and passed over.

    Raises:
        CheckpointError: it has some, and none verifies. To start anew then would throw away what may be rescued.
    """
    found = find_checkpoints(folder.states())
    for file in found:
        trouble = file.verify()
        if not trouble:
            return file.path
        write_line(f"hpcnn: warning: passed over a checkpoint: {trouble}", ERROR)
    if found:
        raise CheckpointError(
            f"the run {str(folder.path)!r} has {len(found)} checkpoints, and none of them is whole. Go on from another "
            "one by --resume PATH, or start a new run by another --out."
        )
    return None
