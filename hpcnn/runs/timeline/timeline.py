"""The timeline of a run: the activity of all ranks on one time axis, as a file for Perfetto."""

from __future__ import annotations

from hpcnn.comm.protocol import Communicator
from hpcnn.core.activity import SAVE, Activity
from hpcnn.nn.network import Network
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.timeline.clocks import RankClock
from hpcnn.runs.timeline.marks import Marks, Recorder
from hpcnn.runs.timeline.trace_file import RankTrace, write_trace
from hpcnn.system.output import write_line
from hpcnn.training.callbacks import Callback, StepReport
from hpcnn.training.model import BuiltNetwork
from hpcnn.training.replica import Replica


class Timeline(Callback):
    """Records the first `steps`, and all work between epochs. Every rank has one; rank 0 writes the file.

    It outlives the loss of other ranks, and keeps their marks up to the last write. Layers are recorded in NumPy mode.
    """

    def __init__(self, comm: Communicator, folder: RunFolder, network: BuiltNetwork, steps: int) -> None:
        self._comm, self._folder, self._left = comm, folder, steps
        self._network = network if isinstance(network, Network) else None
        self._layers = self._network.layer_names if self._network else []
        self._recorder = Recorder(comm.activity, self._layers)
        self._beside = Recorder(Activity(), [])
        self._clock = RankClock()
        self._rank = comm.rank
        """The first rank of this process, which identifies it here."""
        self._parts: dict[int, RankTrace] = {}
        self._following = False

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Start to record, or continue after the loss of other ranks."""
        self._clock.compare(self._comm)
        if not self._following:
            self._recorder.follow()
            self._comm.activity.exchange_thread = self._beside.activity
            self._beside.follow()
            self._following = True
            if self._network is not None:
                self._network.observe(self._recorder)
        self._left = min(self._comm.allgather(self._left))  # some ranks have counted a step that was interrupted
        if not self._left:
            self._record_between_epochs()  # this rank's last step may be the interrupted one

    def on_step(self, report: StepReport) -> None:
        """End the step; write the file after the last recorded one."""
        if self._left > 0:
            self._recorder.end_step()
            self._left -= 1
            if not self._left or self._recorder.full:
                self._record_between_epochs()
            if not self._left:
                self._write()

    def finish(self) -> None:
        """Write all marks, and stop recording. Collective."""
        self._write()
        self._recorder.leave()
        self._record_between_epochs()

    def _record_between_epochs(self) -> None:
        self._recorder.only_between_epochs()
        self._comm.activity.exchange_thread = None
        if self._network is not None:
            self._network.observe(None)

    def _write(self) -> None:
        marks = self._recorder.marks(), self._beside.marks()
        with self._comm.activity.during(SAVE):
            self._recorder.leave()  # the comparison itself is not recorded
            try:
                self._clock.compare(self._comm)
                parts = self._gather(*marks)
            finally:  # also if a rank is lost here and the others continue
                self._recorder.follow()
            if parts is not None:
                self._write_file(parts)

    def _write_file(self, parts: list[RankTrace]) -> None:
        self._parts |= {part.rank: part for part in parts}
        everyone = [self._parts[rank] for rank in sorted(self._parts)]
        try:
            write_trace(self._folder.timeline, everyone, self._layers, {"run": self._folder.path.name})
        except OSError as error:
            write_line(f"warning: {self._folder.timeline.name} can't be written ({error}); training continues")

    def _gather(self, main: Marks, exchange: Marks) -> list[RankTrace] | None:
        comm = self._comm
        who = comm.allgather((self._rank, comm.host))
        mains, exchanges = self._gather_marks(main), self._gather_marks(exchange)
        clocks = comm.gather_arrays(self._clock.points())
        if mains is None or exchanges is None or clocks is None:
            return None
        return [
            RankTrace(rank, host, own_main, own_exchange, clock)
            for (rank, host), own_main, own_exchange, clock in zip(who, mains, exchanges, clocks, strict=True)
        ]

    def _gather_marks(self, marks: Marks) -> list[Marks] | None:
        arrays = [self._comm.gather_arrays(each) for each in (marks.codes, marks.times, marks.places)]
        return [Marks(*own) for own in zip(*(each for each in arrays if each is not None), strict=True)] or None
