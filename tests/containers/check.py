"""Builds the images and trains in them on a Slurm cluster, with a stand-in for Apptainer: minutes, root, a network.

    python -m tests.containers.check FOLDER [NAME...]

FOLDER keeps the images, each about 350 MB. Names choose some of `cases`; all without any. Every training must end with
the weights of one rank outside of a container.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.mpi.launch import OPEN_MPI_PREFIX, ROOT
from tests.slurm.cluster import Cluster

HERE = Path(__file__).parent
JOB = ("jobs/digits_mlp.toml", "--set", "train.epochs=6")
IMAGES = {"mpich": ["MPI=mpich"], "openmpi": ["MPI=openmpi", "EXTRAS=hdf5"], "none": ["MPI=none"]}
STOPPED = "own MPICH, stopped in the second epoch, requeued"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def cases() -> dict[str, tuple[str, dict[str, str]]]:
    """Return the image and the environment of each training."""
    apart = {"HPCNN_STAND_IN": "userns"}  # what Apptainer does without its setuid program
    found = {
        "own MPICH, by srun": ("mpich", {}),
        "own Open MPI, by srun": ("openmpi", {}),
        STOPPED: ("mpich", {"HPCNN_FAULT": "slow rank=0 phase=forward seconds=0.3 step=24-60"}),
        "own MPICH, by the host's mpirun": ("mpich", {"HPCNN_LAUNCHER": f"{sys.prefix}/bin/mpirun"}),
        "own MPICH, user namespaces, --sharens": ("mpich", apart),
        "own MPICH, user namespaces": ("mpich", apart | {"HPCNN_STAND_IN_SHARENS": "no"}),
        "own Open MPI, user namespaces": ("openmpi", apart | {"HPCNN_STAND_IN_SHARENS": "no"}),
        "host's MPICH": ("none", {"HPCNN_HOST_MPI": f"{sys.prefix}/lib"}),
        "host's MPICH instead of its own": ("mpich", {"HPCNN_HOST_MPI": f"{sys.prefix}/lib"}),
    }
    if prefix := os.environ.get(OPEN_MPI_PREFIX):
        found["host's Open MPI"] = ("none", {"HPCNN_HOST_MPI": f"{prefix}/lib", "HPCNN_BIND": prefix})
    if other := os.environ.get("HPCNN_CHECK_HOST_MPI"):  # folders of another MPICH, as lib.sh takes them
        found["another MPICH of the host"] = ("none", {"HPCNN_HOST_MPI": other})
    return found


def build(image: Path, arguments: list[str]) -> None:
    """Make an image as the documentation says, unless it is there."""
    if image.exists():
        return
    options = [word for argument in arguments for word in ("--build-arg", argument)]
    begin = time.monotonic()
    subprocess.run([HERE / "apptainer", "build", *options, image, "containers/hpcnn.def"], cwd=ROOT, check=True)
    print(f"built {image.name} in {time.monotonic() - begin:.0f} s", flush=True)


def train(cluster: Cluster, folder: Path, environment: Mapping[str, str], *, stop: bool) -> tuple[str, str]:
    """Submit the template in a folder and return the state of the job and the hash of its weights.

    `stop`, Slurm's warning of the time limit is sent in the second epoch.
    """
    env = {key: value for key, value in cluster.env().items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    env |= {"PATH": f"{HERE}:{_PATH}", "HPCNN_MAX_RESTARTS": "1" if stop else "0", **as_root, **environment}
    job = cluster.sbatch("--output=out", "slurm/apptainer.sbatch", *JOB, "--out", "run", cwd=folder, env=env)
    if stop:
        metrics = folder / "run" / "metrics.jsonl"
        cluster.wait_until(lambda: metrics.exists() and metrics.read_text().count("\n"), "an epoch")
        cluster.run(["scancel", "--batch", "--signal=USR1", str(job)], check=True)
    state = cluster.wait(job)
    if stop and len((folder / "run" / "attempts.jsonl").read_text().splitlines()) != 4:
        state = "NOT REQUEUED"
    result = folder / "run" / "result.json"
    return state, json.loads(result.read_text())["weights_sha256"] if result.exists() else ""


def expected(folder: Path) -> str:
    """Return the hash on one rank outside of a container."""
    command = [sys.executable, "-m", "hpcnn.train", *JOB, "--quiet", "--out", folder / "outside"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return str(json.loads((folder / "outside" / "result.json").read_text())["weights_sha256"])


def main(folder: Path, names: list[str]) -> int:
    """Run the cases, print a line for each, and return how many failed."""
    folder = folder.resolve()
    chosen = {name: case for name, case in cases().items() if not names or name in names}
    for image in dict.fromkeys(image for image, _ in chosen.values()):
        build(folder / image, IMAGES[image])
    work, failed = folder / "trainings", 0
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    wanted = expected(work)
    tempfile.tempdir = "/var/tmp"  # not bound, as are Slurm's own folders on a real cluster
    with Cluster(2) as cluster:
        for number, (name, (image, environment)) in enumerate(chosen.items()):
            own = work / str(number)
            own.mkdir()
            for shared in ("jobs", "slurm"):
                (own / shared).symlink_to(ROOT / shared)
            begin = time.monotonic()
            state, found = train(
                cluster, own, {"HPCNN_IMAGE": str(folder / image), **environment}, stop=name == STOPPED
            )
            good = state == "COMPLETED" and found == wanted
            failed += not good
            print(f"{'ok' if good else f'FAILED ({state})'}  {time.monotonic() - begin:3.0f} s  {name}", flush=True)
            if not good:
                print((own / "out").read_text())
    return failed


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
