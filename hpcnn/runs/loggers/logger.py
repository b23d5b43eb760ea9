"""The base of loggers, and the callback that keeps their failures away from the training."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpcnn.errors import MissingExtraError
from hpcnn.job.schema import Job
from hpcnn.runs.run_folder import RunFolder
from hpcnn.system.output import write_line
from hpcnn.training.callbacks import Callback, Control, EpochReport
from hpcnn.training.replica import Replica

Line = Mapping[str, Any]
"""The values of an epoch, as in ``metrics.jsonl``."""


class Logger(ABC):
    """Base of loggers. Only rank 0 has them. An error is printed and ends the logger alone."""

    package = ""
    """The optional package that it needs; the extra has the same name."""

    def __init__(self, job: Job, folder: RunFolder) -> None:
        self.job, self.folder = job, folder

    @classmethod
    def check(cls) -> None:
        """Raise MissingExtraError if the package of the logger is missing."""
        if not cls.package:
            return
        found = importlib.util.find_spec(cls.package)
        if found is None or found.origin is None:  # only a folder, which W&B leaves wherever it runs
            raise MissingExtraError(cls.package, cls.package, f'run.loggers = ["{cls.package}"]')

    @abstractmethod
    def open(self, lines: Sequence[Line]) -> None:
        """Start or resume the log of a run with the epochs in `lines`.

        The log may hold fewer of them, or later epochs that are about to be done again.
        """

    @abstractmethod
    def log(self, line: Line) -> None:
        """Log the next epoch."""

    def finish(self, weights_sha256: str) -> None:  # noqa: B027  # optional
        """Log the result of a complete training."""

    def close(self) -> None:  # noqa: B027  # optional
        """Close files and connections, whether the training is complete or not."""


class GuardedLogger(Callback):
    """Calls a logger during a training, and drops it with a warning when it fails."""

    def __init__(self, name: str, logger: Logger) -> None:
        self._name, self._logger = name, logger
        self._failed = False

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Open the log with the epochs so far."""

        def begin() -> None:
            self._logger.open([line for line in self._logger.folder.read_metrics() if line["epoch"] <= epoch])

        self._attempt(begin)

    def on_epoch_end(self, report: EpochReport, replica: Replica, control: Control) -> None:
        """Log the epoch."""
        self._attempt(lambda: self._logger.log(report.line()))

    def on_train_end(self, replica: Replica) -> None:
        """Log the result."""
        self._attempt(lambda: self._logger.finish(replica.model.fingerprint()))

    def close(self) -> None:
        """Close the log."""
        self._attempt(self._logger.close)

    def _attempt(self, action: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self._failed = True
            write_line(
                f"warning: the logger {self._name!r} failed ({type(error).__name__}: {error}); training continues "
                "without it, and a run that is resumed logs what is missing"
            )
            if action != self._logger.close:
                with suppress(Exception):
                    self._logger.close()


def single_values(line: Line) -> dict[str, float]:
    """Return the values of an epoch that are single numbers, without its number and its step.

    >>> single_values({"epoch": 1, "step": 9, "loss": 0.5, "r2": None, "confusion_matrix": [[1, 0], [0, 1]]})
    {'loss': 0.5}
    """
    return {
        name: float(value)
        for name, value in line.items()
        if name not in ("epoch", "step") and isinstance(value, int | float)
    }
