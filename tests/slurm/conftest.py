"""One cluster for all tests of Slurm. Jobs of several tests may be in its queue at once: wait for them together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mpi import launch
from tests.require import missing
from tests.slurm.cluster import Cluster, unavailable
from tests.slurm.project import EPOCHS, Project


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return four nodes for all tests."""
    if reason := unavailable():
        missing(reason)
    with Cluster() as made:
        yield made


@pytest.fixture(scope="session")
def project(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(cluster, tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def undisturbed(mpich: launch.Mpi, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the SHA-256 of the job of `Project.submit` on one rank, without Slurm."""
    cwd: Path = tmp_path_factory.mktemp("undisturbed")
    job = launch.ROOT / "jobs" / "digits_mlp.toml"
    done = mpich.run(0, "-m", "hpcnn.train", job, "--quiet", "--set", f"train.epochs={EPOCHS}", cwd=cwd)
    return launch.sha256_of(done.stdout)
