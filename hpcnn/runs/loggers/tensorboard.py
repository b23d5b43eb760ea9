"""The logger for TensorBoard: event files, by the package `tensorboard` alone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcnn.job.dump import flat_settings, resolved_toml
from hpcnn.job.schema import Job
from hpcnn.runs.loggers.logger import Line, Logger, single_values
from hpcnn.runs.run_folder import RunFolder

TRAIN, VALIDATION = "train", "validation"


class TensorBoardLogger(Logger):
    """Writes two runs, `train` and `validation`, with the tags of Keras, so that `epoch_loss` of both is one chart."""

    package = "tensorboard"

    def __init__(self, job: Job, folder: RunFolder) -> None:
        super().__init__(job, folder)
        self._files: dict[str, EventFile] = {}

    def open(self, lines: Sequence[Line]) -> None:
        """Write the epochs so far, at the times when they would have ended without a stop.

        New files begin with a mark that makes readers drop older ones. To delete those would break a running viewer.
        """
        from tensorboard.compat.proto.event_pb2 import Event

        train = self._file(TRAIN)
        job_as_code = "".join(f"    {line}\n" for line in resolved_toml(self.job).splitlines())  # in Markdown
        train.write(Event(summary=_text("job", job_as_code)))
        train.write(Event(summary=_hyperparameters(self.job)))
        left_s = sum(line["seconds"] for line in lines)
        for line in lines:
            left_s -= line["seconds"]
            self._write(line, time.time() - left_s)
        self._flush()

    def log(self, line: Line) -> None:
        """Write the epoch."""
        self._write(line, time.time())
        self._flush()

    def finish(self, weights_sha256: str) -> None:
        """Write the SHA-256 of the weights as a text."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._file(TRAIN).write(Event(summary=_text("weights_sha256", weights_sha256)))
        self._flush()

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _file(self, run: str) -> EventFile:
        if run not in self._files:
            self._files[run] = EventFile(self.folder.path / "tensorboard" / run)
        return self._files[run]

    def _write(self, line: Line, when: float) -> None:
        values = single_values(line)
        validation = {name.removeprefix("val_"): value for name, value in values.items() if name.startswith("val_")}
        own = {name: value for name, value in values.items() if not name.startswith("val_")}
        for run, part in ((TRAIN, own), (VALIDATION, validation)):
            if part:
                self._file(run).scalars(part, line["epoch"], when)

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()


class EventFile:
    """A new event file, written without a background thread, so that a full disk raises an error here."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("xb")
        self._records = RecordWriter(self._file)
        self.write(Event(file_version="brain.Event:2"))
        self.write(Event(session_log=SessionLog(status=SessionLog.START)))  # discards the events of older files

    def scalars(self, values: dict[str, float], epoch: int, when: float) -> None:
        """Write the values of an epoch that ended at `when`, in seconds since 1970."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        entries = [Summary.Value(tag=f"epoch_{name}", simple_value=value) for name, value in values.items()]
        self.write(Event(step=epoch, wall_time=when, summary=Summary(value=entries)))

    def write(self, event: Any) -> None:
        """Write an event, with the current time unless it has one."""
        event.wall_time = event.wall_time or time.time()
        self._records.write(event.SerializeToString())

    def flush(self) -> None:
        """Make the events visible to readers."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _text(tag: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def _hyperparameters(job: Job) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
    for name, value in flat_settings(job).items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    data = plugin_data_pb2.HParamsPluginData(session_start_info=start)
    value = Summary.Value(
        tag=metadata.SESSION_START_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    return Summary(value=[value])
