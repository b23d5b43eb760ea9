"""The logger for MLflow: to a server, or to files in the run folder."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

from hpcnn.job.dump import flat_settings
from hpcnn.job.schema import Job
from hpcnn.runs.loggers.logger import Line, single_values
from hpcnn.runs.loggers.remote import RemoteLogger
from hpcnn.runs.run_folder import RunFolder

URI = "MLFLOW_TRACKING_URI"
"""Environment variable with the address of a server, or of files elsewhere."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""All ranks wait for rank 0, and MLflow would by default retry for minutes if the server is gone."""
_FILES_ALLOWED = "MLFLOW_ALLOW_FILE_STORE"
"""Without it MLflow 3 requires a database, which does not work on the shared file systems of clusters."""
_MOST_CHARACTERS = 6000


class MlflowLogger(RemoteLogger):
    """Logs the settings as parameters, the values of each epoch as metrics, and the SHA-256 of the weights as a tag."""

    package = "mlflow"

    def __init__(self, job: Job, folder: RunFolder) -> None:
        super().__init__(job, folder)
        self._client: Any = None
        self._finished = False

    def open(self, lines: Sequence[Line]) -> None:
        """Start a run of MLflow, or resume the one of this run folder on the same server."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        uri = os.environ.get(URI) or ""
        place = re.sub("//.*@", "//", uri)  # without a password; empty for local files: the folder may be moved
        if not uri:
            os.environ.setdefault(_FILES_ALLOWED, "true")
            uri = (self.folder.path / "mlruns").resolve().as_uri()
        from mlflow import MlflowClient

        self.resume(place)
        client = MlflowClient(tracking_uri=uri)
        if self.run_id:
            client.update_run(self.run_id, status="RUNNING")
        else:
            self.store(self._new_run(client), 0)
        self._client = client
        for line in lines:
            self.log(line)

    def send(self, line: Line) -> None:
        """Log the values as metrics."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(name, value, now, line["epoch"]) for name, value in single_values(line).items()]
        self._client.log_batch(self.run_id, metrics=metrics)

    def finish(self, weights_sha256: str) -> None:
        """Tag the run with the result."""
        self._client.set_tag(self.run_id, "weights_sha256", weights_sha256)
        self._client.set_terminated(self.run_id, "FINISHED")
        self._finished = True

    def close(self) -> None:
        """Mark a run that was stopped as such."""
        if self._client is not None and not self._finished:
            self._client.set_terminated(self.run_id, "KILLED")

    def _new_run(self, client: Any) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "hpcnn"
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        tags = {"run_folder": str(self.folder.path.resolve())}
        run_id = str(client.create_run(number, run_name=self.job.name or None, tags=tags).info.run_id)
        settings = [Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in flat_settings(self.job).items()]
        for start in range(0, len(settings), 100):  # the most per call
            client.log_batch(run_id, params=settings[start : start + 100])
        return run_id
