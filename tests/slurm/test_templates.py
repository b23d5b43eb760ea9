"""The templates: valid, run to their end under each MPI and launcher, with the bits of one rank, or refuse clearly."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi
from tests.require import missing
from tests.slurm.cluster import Cluster
from tests.slurm.project import Project

SLURM = ROOT / "slurm"
TEMPLATES = sorted(SLURM.glob("*.sbatch"))
SCRIPTS = [*TEMPLATES, SLURM / "lib.sh", SLURM / "site.sh.example"]
FIRST_JOB_S = 60
COMBINATIONS = [("mpich", "mpiexec"), ("mpich", "srun"), ("openmpi", ""), ("openmpi", "srun --mpi=pmix")]


@pytest.fixture(scope="session")
def trained(project: Project, mpich: Mpi, open_mpi: Mpi) -> dict[tuple[str, str], int]:
    """Submit the job under every combination, and return the numbers."""
    mpis = {"mpich": mpich, "openmpi": open_mpi}
    return {
        (name, launcher): project.submit(mpi=mpis[name], environment={"HPCNN_LAUNCHER": launcher} if launcher else {})
        for name, launcher in COMBINATIONS
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        missing("shellcheck is not installed")
    done = subprocess.run(
        ["shellcheck", "--shell=bash", "--external-sources", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_slurm_would_take_each_template(cluster: Cluster, template: Path) -> None:
    done = cluster.run(["sbatch", "--test-only", template, "jobs/digits_mlp.toml"], cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_from_nothing_to_a_finished_first_job(mpich: Mpi, tmp_path: Path) -> None:
    begin = time.monotonic()
    with Cluster() as cluster:
        project = Project(cluster, tmp_path)
        job = project.submit(mpi=mpich)
        assert cluster.wait(job) == "COMPLETED", project.output(job)
        ended = time.monotonic()
    assert "attempt 0" in project.output(job)
    assert ended - begin < FIRST_JOB_S


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda pair: " ".join(pair).strip())
def test_two_nodes_of_two_ranks_give_the_bits_of_one_rank(
    project: Project, trained: dict[tuple[str, str], int], combination: tuple[str, str], undisturbed: str
) -> None:
    job = trained[combination]
    assert project.cluster.wait(job) == "COMPLETED", project.output(job)
    assert project.sha256(job) == undisturbed
    start, end = project.attempts(job)
    expected = {"attempt": 0, "job_id": job, "nodes": 2, "tasks": 4}
    assert start.items() >= (expected | {"event": "start", "exit_code": None, "step": 0}).items()
    assert end.items() >= (expected | {"event": "end", "exit_code": 0, "step": 138}).items()
    assert f"weights sha256 {undisturbed}" in (project.run(job) / "logs" / "attempt-0.log").read_text()


@pytest.mark.parametrize(
    ("name", "launcher", "words"),
    [
        ("openmpi", "srun --mpi=pmi2", r"mpi4py uses Open MPI.*Use srun --mpi=pmix"),
        ("mpich", "srun --mpi=pmix", r"mpi4py uses MPICH.*Use srun --mpi=pmi2"),
        ("mpich", "{openmpi}/bin/mpirun", r"mpi4py uses MPICH, and \S+/mpirun .* is not of it"),
        ("openmpi", "{mpich}/bin/mpiexec", r"mpi4py uses Open MPI, and \S+/mpiexec .* is not of it"),
        ("mpich", "nonsense/mpirun", r"nonsense/mpirun \(missing\)"),
    ],
)
def test_a_launcher_of_another_mpi_is_refused_by_the_template(
    project: Project, mpich: Mpi, open_mpi: Mpi, name: str, launcher: str, words: str
) -> None:
    mpis = {"mpich": mpich, "openmpi": open_mpi}
    launcher = launcher.format(mpich=mpich.prefix, openmpi=open_mpi.prefix)
    job = project.submit("--nodes=1", mpi=mpis[name], environment={"HPCNN_LAUNCHER": launcher})
    assert project.cluster.wait(job) == "FAILED"
    assert re.search(words, project.output(job))
    assert not project.run(job).exists()


@pytest.mark.parametrize(("name", "plugin"), [("openmpi", "pmi2"), ("mpich", "none")])
def test_a_plugin_of_another_mpi_is_refused_by_the_program(
    cluster: Cluster, mpich: Mpi, open_mpi: Mpi, tmp_path: Path, name: str, plugin: str
) -> None:
    mpi = mpich if name == "mpich" else open_mpi
    srun = ["srun", "--nodes=2", "--ntasks=4", f"--mpi={plugin}", mpi.python, "-m", "hpcnn.train", "--out", "run"]
    done = cluster.run(srun, cwd=tmp_path, env=cluster.env(mpi))
    assert done.returncode == 2, done.stderr
    assert "srun --mpi=pmi2 fits MPICH and srun --mpi=pmix fits Open MPI" in done.stderr
    assert not (tmp_path / "run").exists()


def test_one_rank_needs_no_mpi(project: Project, undisturbed: str) -> None:
    job = project.submit(template="single", environment={"HPCNN_LAUNCHER": "srun --mpi=nonsense"})
    assert project.cluster.wait(job) == "COMPLETED", project.output(job)
    assert project.sha256(job) == undisturbed


def test_keras(project: Project) -> None:
    if importlib.util.find_spec("keras") is None or importlib.util.find_spec("tensorflow") is None:
        missing("keras or tensorflow is not installed")
    arguments = ("jobs/digits_mlp.toml", "--set", "train.epochs=1")
    job = project.submit("--ntasks-per-node=1", "--gres=gpu:1", template="keras", arguments=arguments)
    assert project.cluster.wait(job) == "COMPLETED", project.output(job)
    assert 'backend = "keras"' in (project.run(job) / "job.toml").read_text()


def test_a_sweep_trains_each_point_two_at_a_time(project: Project) -> None:
    (project.folder / "points.toml").write_text("[values]\noptimizer.learning_rate = [0.001, 0.003, 0.01]\n")
    arguments = ("points.toml", "jobs/digits_mlp.toml", "--set", "train.epochs=1")
    job = project.submit("--array=0-3%2", template="sweep", arguments=arguments)
    states = project.cluster.wait(job).split()
    assert sorted(states) == ["COMPLETED"] * 3 + ["FAILED"], project.output(job)
    assert "no point 3" in project.output(job)
    for index, rate in enumerate(("0.001", "0.003", "0.01")):
        assert f"learning_rate = {rate}\n" in (project.run(job) / str(index) / "job.toml").read_text()
    table = project.cluster.run(["python", "-m", "hpcnn.sweep", "collect", project.run(job)], check=True).stdout
    assert all(rate in table for rate in ("0.001", "0.003", "0.01"))


def test_a_range_of_nodes_takes_what_is_free(project: Project, undisturbed: str) -> None:
    job = project.submit("--nodes=2-4")
    assert project.cluster.wait(job) == "COMPLETED", project.output(job)
    start, _ = project.attempts(job)
    assert 2 <= start["nodes"] <= 4
    assert start["tasks"] == 2 * start["nodes"]
    assert project.sha256(job) == undisturbed


def test_odd_paths_another_folder_and_no_environment(cluster: Cluster, tmp_path: Path) -> None:
    """The templates lie in a folder with an odd name, elsewhere; sbatch hands on nothing; site.sh has it all.

    What BLAS is told may differ from what it is told here, and with it the bits: one rank is started likewise.
    """
    odd = tmp_path / 'it\'s a "prüf" $folder'
    (odd / "here").mkdir(parents=True)
    shutil.copytree(SLURM, odd / "slurm")
    exports = "".join(f"export {name}={cluster.env()[name]!r}\n" for name in ("PATH", "PYTHONPATH", "SLURM_CONF"))
    (odd / "slurm" / "site.sh").write_text(exports)
    jobs, hashes = {}, set()
    for template in ("train", "single"):
        options = ["--export=NONE", "--job-name=ü 'x'", f"--output={tmp_path}/{template}"]
        arguments = [ROOT / "jobs" / "digits_mlp.toml", "--set", "train.epochs=6", "--out", f"a {template}; 'ü'"]
        jobs[template] = cluster.sbatch(*options, f"../slurm/{template}.sbatch", *arguments, cwd=odd / "here")
    for template, job in jobs.items():
        assert cluster.wait(job) == "COMPLETED", (tmp_path / template).read_text()
        run = odd / "here" / f"a {template}; 'ü'"
        hashes.add(json.loads((run / "result.json").read_text())["weights_sha256"])
        comment = cluster.run(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%k"]).stdout.strip()
        assert comment == f"hpcnn:{run}"
    assert len(hashes) == 1


def test_bad_input_is_not_tried_again(project: Project) -> None:
    job = project.submit("--nodes=1", arguments=("jobs/digits_mlp.toml", "--set", "train.epoch=3"))
    assert project.cluster.wait(job) == "FAILED"
    assert "Did you mean 'epochs'?" in project.output(job)
    assert "another try would end alike" in project.output(job)
    assert [line["exit_code"] for line in project.attempts(job)] == [None, 2]
