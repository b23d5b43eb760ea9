"""The commands of `hpcnn`, as a user of the cluster types them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.slurm.cluster import Cluster

HPCNN = (sys.executable, "-m", "hpcnn")


@dataclass(frozen=True)
class Commands:
    """Runs them in a folder, on the head of a cluster."""

    cluster: Cluster
    folder: Path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return self.cluster.start([*HPCNN, *arguments], cwd=self.folder)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.cluster.run([*HPCNN, *arguments], cwd=self.folder)

    def output(self, *arguments: str | Path) -> str:
        """Return what a command prints that must succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def submit(self, *arguments: str | Path) -> str:
        """Submit, and return the number of the job."""
        said = self.output("submit", *arguments)
        return said.split("submitted   job ")[1].split(";")[0]

    def status(self, *names: str) -> list[dict[str, Any]]:
        return list(json.loads(self.output("status", "--json", *names))["runs"])

    def wait_for(self, name: str, *states: str) -> dict[str, Any]:
        """Wait until a run is in one of these states, and, if it is to run, has trained; return its status."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.status(name)
            return found[0]["state"] in states and (found[0]["state"] != "running" or bool(found[0]["step"]))

        self.cluster.wait_until(there, f"{name} to be {' or '.join(states)}")
        return found[0]

    def result(self, run: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / run / "result.json").read_text()))
