"""PyTorch scripts that srun starts, without a template."""

from __future__ import annotations

from pathlib import Path

from hpcnn.comm.exchange.choice import CHOICE
from tests.mpi.launch import Mpi
from tests.require import require
from tests.slurm.cluster import Cluster


def test_a_script_that_srun_starts_on_two_nodes(cluster: Cluster, mpich: Mpi, tmp_path: Path) -> None:
    require("torch")
    srun = ["srun", "--nodes=2", "--ntasks=3", "--mpi=pmi2", mpich.python, "-m", "tests.torch.scripts.training"]
    done = cluster.run(srun, cwd=tmp_path, env=cluster.env(mpich, {CHOICE: "direct"}))
    assert done.returncode == 0, done.stderr
    assert "checks passed on 3 ranks" in done.stdout
