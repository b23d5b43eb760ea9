"""The commands of the page on Slurm do what the page says, on the cluster, one after the other."""

from __future__ import annotations

import re
import shlex

from tests.mpi.launch import ROOT
from tests.slurm.cluster import Cluster
from tests.slurm.project import Project

PAGE = (ROOT / "docs" / "slurm.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh slurm\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = [line.split(" #")[0].strip() for block in BLOCK.findall(PAGE) for line in block.splitlines()]


def test_commands_run_one_after_the_other(cluster: Cluster, project: Project) -> None:
    assert len(COMMANDS) >= 7
    first = ""
    jobs = []
    for command in COMMANDS:
        words = shlex.split(command.replace("17", first))
        done = cluster.run(words, cwd=project.folder, check=True)
        if words[0] == "sbatch":
            (number,) = re.findall(r"Submitted batch job (\d+)", done.stdout)
            first = first or number
            jobs.append(number)
        if words[0] == "squeue":  # the next command looks at what the job has said
            assert cluster.wait(first) == "COMPLETED"
    for number in jobs:
        assert set(cluster.wait(number).split()) == {"COMPLETED"}, number
    assert "on 359 samples" in "".join(path.read_text() for path in project.folder.glob("hpcnn-evaluate-*.out"))


def test_each_variable_of_the_templates_is_explained() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "slurm").glob("*s[bh]*"))
    assert set(re.findall(r"HPCNN_\w+", scripts)) == set(re.findall(r"HPCNN_\w+", PAGE))
