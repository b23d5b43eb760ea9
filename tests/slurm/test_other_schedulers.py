"""What there is for other schedulers: the PBS script with a stand-in for qsub, and manifests by their schemas."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.mpi.launch import ROOT, Mpi
from tests.require import require
from tests.timing import WAIT_S

SLURM = ROOT / "slurm"
SLOW = {"HPCNN_FAULT": "slow rank=0 phase=forward seconds=0.6 step=24-130"}
REPLICAS = ("replicas", "restartPolicy", "template")
"""The fields of a ReplicaSpec of kubeflow.org/v2beta1."""


def run_pbs(folder: Path, mpich: Mpi, ranks: int, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the script as PBS would on so many ranks; what it submits is in the file `submitted`."""
    stub = folder / "bin" / "qsub"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(f'#!/bin/sh\necho "$@" >>"{folder}/submitted"\n')
    stub.chmod(0o755)
    (folder / "nodes").write_text("localhost\n" * ranks)
    pbs = {"PBS_O_WORKDIR": str(folder), "PBS_NODEFILE": str(folder / "nodes")}
    env = mpich.environment(pbs | environment)
    env["PATH"] = f"{stub.parent}{os.pathsep}{env['PATH']}"
    script = ["bash", SLURM / "pbs.sh"]
    return subprocess.run(script, cwd="/", env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("jobs", "slurm"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "job.toml").write_text((ROOT / "jobs/digits_mlp.toml").read_text().replace("epochs = 40", "epochs = 6"))
    return tmp_path


def test_pbs_submits_itself_until_the_run_is_complete(mpich: Mpi, folder: Path, undisturbed: str) -> None:
    job = {"JOB": "job.toml", "RUN": "a-run"}
    done = run_pbs(folder, mpich, 2, {**job, "MINUTES": "0.15", **SLOW})
    assert done.returncode == 0, done.stderr
    assert (folder / "submitted").read_text() == "-v JOB=job.toml,RUN=a-run,MINUTES=0.15 slurm/pbs.sh\n"
    assert not (folder / "a-run" / "result.json").exists()
    done = run_pbs(folder, mpich, 3, {**job, "MINUTES": "55"})
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "a-run" / "result.json").read_text())["weights_sha256"] == undisturbed
    assert len((folder / "submitted").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("job", "environment", "code"),
    [("nothing.toml", {}, 2), ("job.toml", {"HPCNN_FAULT": "raise phase=data"}, 1)],
    ids=["bad input", "no progress"],
)
def test_pbs_gives_up(mpich: Mpi, folder: Path, job: str, environment: dict[str, str], code: int) -> None:
    done = run_pbs(folder, mpich, 2, {"JOB": job, **environment})
    assert done.returncode == code, done.stderr
    assert not (folder / "submitted").exists()


def load_yaml(name: str) -> Any:
    return require("yaml").safe_load((SLURM / name).read_text())


def test_the_mpijob_has_the_fields_of_its_schema() -> None:
    job = load_yaml("mpijob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    spec = job["spec"]
    assert spec.keys() <= {"slotsPerWorker", "mpiImplementation", "runPolicy", "mpiReplicaSpecs"}
    assert spec["mpiImplementation"] in ("OpenMPI", "Intel", "MPICH")
    assert spec["runPolicy"].keys() <= {"cleanPodPolicy", "backoffLimit"}
    assert spec["runPolicy"]["cleanPodPolicy"] in ("None", "Running", "All")
    assert spec["mpiReplicaSpecs"].keys() == {"Launcher", "Worker"}
    for replica in spec["mpiReplicaSpecs"].values():
        assert replica.keys() == {*REPLICAS}
        assert replica["restartPolicy"] in ("Never", "OnFailure")
        pod = replica["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_mpijob_starts_a_rank_in_each_slot_and_resumes() -> None:
    spec = load_yaml("mpijob.yaml")["spec"]
    (launcher,) = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    words = [*launcher["command"], *launcher["args"]]
    ranks = spec["slotsPerWorker"] * spec["mpiReplicaSpecs"]["Worker"]["replicas"]
    assert words[words.index("-n") + 1] == str(ranks)
    assert words[-4:] == ["--out", "/work/runs/digits", "--resume", "auto"]


def test_the_cloud_cluster_is_one_of_slurm() -> None:
    cluster = load_yaml("parallelcluster.yaml")
    assert cluster.keys() == {"Region", "Image", "HeadNode", "Scheduling", "SharedStorage"}
    assert cluster["Scheduling"]["Scheduler"] == "slurm"
    (queue,) = cluster["Scheduling"]["SlurmQueues"]
    assert queue["CapacityType"] in ("ONDEMAND", "SPOT", "CAPACITY_BLOCK")
    assert queue["ComputeResources"][0]["MaxCount"] >= 2
