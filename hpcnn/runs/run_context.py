"""What all parts of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcnn.comm.protocol import Communicator
from hpcnn.runs.lease.keeper import LeaseKeeper
from hpcnn.runs.run_folder import RunFolder
from hpcnn.training.training import Training


@dataclass(frozen=True)
class RunContext:
    """A training, the ranks that do it, and the folder that it writes to."""

    comm: Communicator
    training: Training
    folder: RunFolder
    base: Path
    """Folder of the job file."""
    keeper: LeaseKeeper | None = None
    """Keeps the folder's lease, on rank 0."""

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, which alone writes and prints."""
        return self.comm.rank == 0

    def check_lease(self) -> None:
        """Raise LeaseLostError if another job has taken over the folder."""
        if self.keeper is not None:
            self.keeper.check()
