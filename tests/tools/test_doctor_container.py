"""How the doctor sees that it is in a container, what it finds of the launcher there, and of a job's data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcnn.job.load import load_job
from hpcnn.tools.doctor.checks import container as checks
from hpcnn.tools.doctor.container import find_container, loaded_library, unreachable_launcher
from hpcnn.tools.doctor.evidence import Container
from hpcnn.tools.doctor.job_data import data_paths, missing_data
from tests.tools.doctor_evidence import IN_CONTAINERS, SOUND, folder

LIMIT_S = 20.0


@pytest.mark.parametrize(
    ("file", "text", "environ", "engine", "image"),
    [
        (".singularity.d/env/90-environment.sh", "", {}, "Apptainer", ""),
        ("etc/x", "", {"APPTAINER_CONTAINER": "/a.sif"}, "Apptainer", "/a.sif"),
        (".dockerenv", "", {"SINGULARITY_CONTAINER": "/b.sif"}, "Apptainer", "/b.sif"),
        (".dockerenv", "", {}, "Docker", ""),
        ("run/.containerenv", "", {}, "Podman", ""),
        ("proc/1/cgroup", "0::/docker/0a1b", {}, "Docker", ""),
        ("proc/1/cgroup", "0::/kubepods.slice/pod7/docker-0a", {}, "Kubernetes", ""),
        ("proc/1/cgroup", "0::/machine.slice/libpod-0a.scope", {}, "Podman", ""),
    ],
)
def test_a_container_is_recognised(
    tmp_path: Path, file: str, text: str, environ: dict[str, str], engine: str, image: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert find_container(environ, tmp_path) == Container(engine, image)


def test_a_plain_machine_is_none(tmp_path: Path) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/cgroup").write_text("0::/init.scope")
    assert find_container({"PMI_FD": "3"}, tmp_path) is None


def test_what_the_launcher_refers_to(tmp_path: Path) -> None:
    (tmp_path / ".dockerenv").touch()
    reading, writing = os.pipe()
    assert find_container({"PMI_FD": str(reading)}, tmp_path) == Container("Docker", "", ("PMI",))
    os.close(reading)
    os.close(writing)
    assert unreachable_launcher({"PMI_FD": str(reading)}) == f"PMI_FD={reading}"
    pmix = {"PMIX_RANK": "0", "PMIX_SERVER_TMPDIR": "/spool/pmix.1"}
    missing = "PMIX_SERVER_TMPDIR=/spool/pmix.1"
    assert find_container(pmix, tmp_path) == Container("Docker", "", ("PMIx",), missing)
    (tmp_path / "spool/pmix.1").mkdir(parents=True)
    assert find_container(pmix, tmp_path) == Container("Docker", "", ("PMIx",))


def test_the_library_is_not_taken_for_the_module_that_uses_it() -> None:
    module = "7f00-7f01 r-xp 00000000 08:01 5 /a/mpi4py/MPI.mpich.cpython-311-x86_64-linux-gnu.so\n"
    assert loaded_library(f"{module}7f02-7f03 r--p 00000000 08:01 6 /b c/libmpi_cray.so.12.0\n") == (
        "/b c/libmpi_cray.so.12.0"
    )
    assert loaded_library(module) == ""


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        ('source = "digits"', ()),
        ('source = "npz"\npath = "beside.npz"', ()),
        ('source = "npz"\npath = "here.npz"', ()),
        (
            'source = "npz"\npath = "here.npz"\nvalidation_path = "{0}/none.npz"',
            ("data.validation_path = {0}/none.npz",),
        ),
        ('source = "csv"\npath = "{0}/jobs/*.csv"\ntargets = ["y"]', ()),
        ('source = "csv"\npath = "no/*/x.csv"\ntargets = ["y"]', ("data.path = no/*/x.csv",)),
        ('source = "csv"\npath = "s3://bucket/none.csv"\ntargets = ["y"]', ()),
    ],
)
def test_data_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, missing: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    job = tmp_path / "jobs" / "job.toml"
    job.parent.mkdir()
    (tmp_path / "here.npz").touch()
    (tmp_path / "jobs" / "beside.npz").touch()
    job.write_text(
        f'[data]\n{data.format(tmp_path)}\n[model]\nlayers = [{{ type = "dense", units = 4 }}]\n[loss]\nname = "mse"\n'
    )
    found = missing_data(data_paths(load_job(job)), LIMIT_S)
    assert found == tuple(one.format(tmp_path) for one in missing)


def test_outside_of_a_container_nothing_is_said() -> None:
    for check in (checks.check_container, checks.check_mpi, checks.check_launcher, checks.check_shm):
        assert list(check(SOUND)) == []
    assert list(checks.check_run_folder(SOUND)) == []


def test_a_folder_of_an_image_is_told_once() -> None:
    from hpcnn.tools.doctor.checks import judge

    evidence = folder(mount="/", trouble="Read-only file system")(IN_CONTAINERS)
    assert [one.check for one in judge(evidence) if one.level != "ok"] == ["container files"]
