"""Loggers write the values of each epoch to other tools: one module per tool, and the registry."""

from __future__ import annotations

from collections.abc import Sequence

from hpcnn.job.schema import Job
from hpcnn.runs.loggers.csv import CsvLogger
from hpcnn.runs.loggers.logger import GuardedLogger, Logger
from hpcnn.runs.loggers.mlflow import MlflowLogger
from hpcnn.runs.loggers.tensorboard import TensorBoardLogger
from hpcnn.runs.loggers.wandb import WandbLogger
from hpcnn.runs.run_folder import RunFolder

LOGGERS: dict[str, type[Logger]] = {
    "csv": CsvLogger,
    "mlflow": MlflowLogger,
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
}
"""The class of each name in ``run.loggers``."""


def check_loggers(names: Sequence[str]) -> None:
    """Check that the packages of the loggers are installed."""
    for name in names:
        LOGGERS[name].check()


def make_loggers(job: Job, folder: RunFolder) -> list[GuardedLogger]:
    """Return the loggers that ``run.loggers`` names, each once. For the rank that writes."""
    return [GuardedLogger(name, LOGGERS[name](job, folder)) for name in dict.fromkeys(job.run.loggers)]
