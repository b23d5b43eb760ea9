"""A user's folder on the cluster: templates and jobs, as in a checkout, and what was submitted from there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mpi.launch import ROOT, Mpi
from tests.slurm.cluster import Cluster

EPOCHS = 6
STEPS = 6 * 23
_SITE = """
if [[ -v FAULT_AT_FIRST && ${SLURM_RESTART_COUNT:-0} == 0 ]]; then
    export HPCNN_FAULT="$FAULT_AT_FIRST"
fi
"""
"""A fault of the first attempt alone: a job keeps its environment when it comes back."""
_JOB = ("jobs/digits_mlp.toml", "--set", f"train.epochs={EPOCHS}")


@dataclass(frozen=True)
class Project:
    """A folder from which jobs are submitted."""

    cluster: Cluster
    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "jobs").symlink_to(ROOT / "jobs")
        (self.folder / "slurm").mkdir()
        for template in {*(ROOT / "slurm").iterdir()} - {ROOT / "slurm" / "site.sh"}:
            (self.folder / "slurm" / template.name).symlink_to(template)
        (self.folder / "slurm" / "site.sh").write_text(_SITE)

    def submit(
        self,
        *options: str,
        template: str = "train",
        arguments: tuple[str, ...] = _JOB,
        mpi: Mpi | None = None,
        environment: dict[str, str] | None = None,
    ) -> int:
        """Submit a template, by default to train the job that `undisturbed` names, and return the job's number."""
        script = f"slurm/{template}.sbatch"
        output = f"--output={self.folder}/%A.out"
        env = self.cluster.env(mpi, environment)
        return self.cluster.sbatch(output, *options, script, *arguments, cwd=self.folder, env=env)

    def output(self, job: int) -> str:
        """Return what the job has said so far."""
        path = self.folder / f"{job}.out"
        return path.read_text() if path.exists() else ""

    def run(self, job: int) -> Path:
        """Return the run folder that a job chose."""
        return self.folder / "runs" / f"digits_mlp-{job}"

    def sha256(self, job: int) -> str:
        """Return the hash in the job's result; the job must be complete."""
        result = self.run(job) / "result.json"
        assert result.exists(), self.output(job)
        return str(json.loads(result.read_text())["weights_sha256"])

    def attempts(self, job: int) -> list[dict[str, Any]]:
        """Return the job's record of starts and ends."""
        return [json.loads(line) for line in (self.run(job) / "attempts.jsonl").read_text().splitlines()]

    def wait_for_epochs(self, job: int, epochs: int = 1) -> None:
        """Wait until the job has trained so many epochs."""
        metrics = self.run(job) / "metrics.jsonl"
        self.cluster.wait_until(
            lambda: metrics.exists() and metrics.read_text().count("\n") >= epochs, f"{epochs} epochs of job {job}"
        )
