"""``metrics.jsonl``: a line an epoch, none twice and none lost, whatever becomes of the disk and of other ranks."""

from __future__ import annotations

from hpcnn.comm.protocol import Communicator
from hpcnn.runs.records.line_log import Line, LineLog
from hpcnn.runs.run_folder import RunFolder
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica

TELL_EPOCHS = 1000
"""After so many epochs the rank that writes tells the others what they need not keep any more."""


class MetricsLog(Callback):
    """Writes a line of JSON an epoch. Every rank has one; that of rank 0 writes.

    Args:
        folder: of the run.
        heirs: the ranks, if others are to take over when the one that writes is lost: they keep the lines, too.
    """

    def __init__(self, folder: RunFolder, heirs: Communicator | None = None) -> None:
        self._folder, self._heirs = folder, heirs
        self._writes = False
        self._done: int | None = None
        """The epochs that were done when this rank began to write, as long as the file is not brought up to date."""
        self.log = LineLog(folder.metrics.name, folder.append_metrics)

    def begin(self, epochs: int, *, writes: bool, recovered: bool = False) -> None:
        """Keep the lines of the first `epochs` epochs, on the rank that writes from now on.

        Raises:
            CheckpointError: the file can't be brought up to date. Not if ranks were lost: then it is tried again.
        """
        self._writes = writes
        self.log.waiting = [line for line in self.log.waiting if line["epoch"] <= epochs]
        if writes:
            self._done = epochs
            if not recovered:
                self.log.waiting = self._up_to_date()
            self.write()

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Write the epoch's line."""
        if self._writes or self._heirs is not None:
            self.log.waiting.append(report.line())
        if self._writes:
            self.write()
        if self._heirs is not None and report.epoch % TELL_EPOCHS == 0:
            self.log.keep(self._heirs.broadcast(len(self.log.waiting)))

    def write(self) -> None:
        """Write what waits."""
        self.log.write(None if self._done is None else self._up_to_date)

    def _up_to_date(self) -> list[Line]:
        """Drop what is about to be done again, here and in the file; return what is missing there."""
        assert self._done is not None
        held = self._folder.keep_metrics(self._done)
        self._done = None
        return [line for line in self.log.waiting if held < line["epoch"]]
