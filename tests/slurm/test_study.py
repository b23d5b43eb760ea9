"""`hpcnn scaling-study` on a real cluster: a small study of two sizes, and what the same command does afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.mpi.launch import ROOT, Mpi
from tests.slurm.cluster import Cluster
from tests.slurm.commands import Commands

STUDY = (
    *(ROOT / "jobs" / "digits_mlp.toml", "--nodes", "1,2", "--tasks-per-node", "2", "--steps", "5", "--strong"),
    *("--without", "ddp", "--without", "horovod", "--time", "5", "--out", "study"),
)


def output(cluster: Cluster, folder: Path, said: str) -> str:
    """Wait for the job that was submitted, and return what it has printed."""
    number = said.split("submitted   job ")[1].split(";")[0]
    state = cluster.wait(number)
    text = (folder / "study" / "logs" / f"slurm-{number}.out").read_text()
    assert state == "COMPLETED", text
    return text


def test_two_sizes_have_one_hash(cluster: Cluster, mpich: Mpi, open_mpi: Mpi, tmp_path: Path) -> None:
    """By mpirun of MPICH; then the smaller size again, on the first node of the two, by srun with Open MPI."""
    commands = Commands(cluster, tmp_path)
    output(cluster, tmp_path, commands.output("scaling-study", *STUDY))
    one, two = (json.loads((tmp_path / f"study/raw/strong-{nodes}.json").read_text()) for nodes in (1, 2))
    assert (one["environment"]["ranks_by_node"], two["environment"]["ranks_by_node"]) == ([2], [2, 2])
    assert (one["network"], two["network"]["latency_s"] > 0) == (None, True)
    assert [*one["sides"]] == [*two["sides"]] == ["hpcnn", "allreduce"]
    sha256 = one["sides"]["hpcnn"]["weights_sha256"]
    page = (tmp_path / "study" / "README.md").read_text()
    assert (
        f"**All 2 strong-scaling runs have one SHA-256** of the weights after 55 steps, on 1, 2 nodes: `{sha256}`"
        in page
    )
    assert commands.output("scaling-study", *STUDY).endswith("README.md: 2 of 2 runs\n")  # and nothing is submitted
    (tmp_path / "study/raw/strong-1.json").unlink()
    again = [open_mpi.python, "-m", "hpcnn", "scaling-study", *STUDY]
    done = cluster.run(again, cwd=tmp_path, env=cluster.env(open_mpi, {"HPCNN_LAUNCHER": "srun"}), check=True)
    text = output(cluster, tmp_path, done.stdout)
    assert re.search(r"2 ranks on (node\d) .*\n.*run strong-1 by srun --mpi=pmix .*--nodelist=\1\n", text)
    other = json.loads((tmp_path / "study/raw/strong-1.json").read_text())
    assert other["environment"]["mpi"].startswith("Open MPI")
    assert other["sides"]["hpcnn"]["weights_sha256"] == sha256
