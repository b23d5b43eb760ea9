"""How the doctor gathers evidence, within time limits, and shows what it found."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from hpcnn import doctor
from hpcnn.tools.doctor import examine as examine_module
from hpcnn.tools.doctor import file_systems, installation
from hpcnn.tools.doctor.evidence import FileSystem, Horovod, Interface, Local, Probe, Program, Slurm
from hpcnn.tools.doctor.file_systems import (
    existing,
    mount_of,
    probe_file_system,
    remove_marker,
    try_file_system,
    unshared,
)
from hpcnn.tools.doctor.installation import find_horovod, find_launchers, find_slurm
from hpcnn.tools.doctor.local import interfaces
from hpcnn.tools.doctor.probe import probe_alone
from hpcnn.tools.doctor.probe_program import read_local
from hpcnn.tools.doctor.shared_memory import shortage
from hpcnn.tools.doctor.timed_command import run_timed
from tests.tools.doctor_evidence import NODES, RANKS

LIMIT_S = 20.0


def program(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# ---------------------------------------------------------------------------------------------------------- asking


def test_an_answer() -> None:
    answer = run_timed(["sh", "-c", "echo yes; echo no >&2"], LIMIT_S)
    assert (answer.code, answer.out, answer.error, answer.trouble) == (0, "yes\n", "no\n", "")


@pytest.mark.parametrize(
    ("command", "trouble"),
    [
        (["sh", "-c", "echo first >&2; echo last >&2; exit 3"], "last"),
        (["sh", "-c", "exit 3"], "exit code 3"),
        (["/nonexistent/program"], "/nonexistent/program: No such file or directory"),
        (["sh", "-c", "sleep 60 & wait"], "no answer within 0.2 s"),
    ],
    ids=["error", "silent", "missing", "hanging"],
)
def test_what_went_wrong(command: list[str], trouble: str) -> None:
    begin = time.monotonic()
    assert run_timed(command, 0.2 if "sleep" in command[-1] else LIMIT_S).trouble == trouble
    assert time.monotonic() - begin < LIMIT_S


# ----------------------------------------------------------------------------------------------------- file systems


def test_a_folder_is_tried_out_and_left_clean(tmp_path: Path) -> None:
    found = try_file_system(tmp_path / "runs" / "new")
    assert found.folder == str(tmp_path)  # runs/ would be made there
    assert (found.trouble, found.renames, found.locks) == ("", True, True)
    assert found.free > 0
    assert found.fsync_s > 0
    assert list(tmp_path.iterdir()) == []


def test_another_process_asks(tmp_path: Path) -> None:
    found = probe_file_system(tmp_path, LIMIT_S, "mark")
    assert (found.folder, found.marker, found.trouble) == (str(tmp_path), "mark", "")
    assert unshared(str(tmp_path), {"here": "mark", "there": "mask"}, LIMIT_S) == ["there"]
    remove_marker(found, LIMIT_S)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_systems.sys, "executable", program(tmp_path, "python", "sleep 60"))
    assert probe_file_system(tmp_path, 0.2) == FileSystem(str(tmp_path), trouble="no answer within 0.2 s")


def test_a_folder_that_can_not_be_written_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_systems.tempfile, "TemporaryDirectory", refuse)
    assert try_file_system(tmp_path).trouble == "Permission denied"
    assert try_file_system(tmp_path, writes=False).trouble == ""


def test_a_trial_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_systems, "_try_out", full)
    found = try_file_system(tmp_path, "mark")
    assert (found.trouble, found.marker) == ("No space left on device", "mark")
    remove_marker(found, LIMIT_S)
    assert list(tmp_path.iterdir()) == []


def test_where_a_folder_is_mounted() -> None:
    mounts = "1 0 8:1 / / rw - ext4 a rw\n2 1 0:9 / /a\\040b rw,x shared:1 - lustre b rw"
    assert mount_of(Path("/a b/c"), mounts) == ("/a b", "lustre")
    assert mount_of(Path("/c"), mounts) == ("/", "ext4")
    assert mount_of(Path("/c"), "") == ("", "unknown")
    assert existing(Path("/nonexistent/a/b")) == Path("/")


# ----------------------------------------------------------------------------------------------------- installation


def test_launchers_on_the_path(tmp_path: Path) -> None:
    one = program(tmp_path / "one", "mpirun", "echo 'mpirun (Open MPI) 5.0.1'")
    two = program(tmp_path / "two", "mpirun", "echo 'Intel(R) MPI Library for Linux* OS, Version 2021.13 Build'")
    (tmp_path / "again").symlink_to(tmp_path / "one")
    path = f"{tmp_path}/one:{tmp_path}/none:{tmp_path}/again:{tmp_path}/two"
    assert find_launchers(path, LIMIT_S) == (Program(one, "Open MPI 5.0.1"), Program(two, "Intel(R) MPI 2021.13"))


class Distribution:
    version = "0.28.1"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locate_file(self, name: str) -> Path:
        return self.folder / name


def test_what_horovod_was_built_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.importlib.metadata, "distribution", lambda _: Distribution(tmp_path))
    program(tmp_path, "ldd", "echo 'libmpi.so.40 => /o/libmpi.so.40'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_horovod(LIMIT_S) == Horovod("0.28.1")
    (tmp_path / "horovod" / "torch").mkdir(parents=True)
    (tmp_path / "horovod" / "torch" / "mpi_lib_v2.so").touch()
    assert find_horovod(LIMIT_S) == Horovod("0.28.1", "", "Open MPI")
    (tmp_path / "horovod" / "tensorflow").mkdir()
    (tmp_path / "horovod" / "tensorflow" / "mpi_lib.so").touch()
    (tmp_path / "horovod" / "metadata.json").write_text('{"tensorflow": "2.18.0"}')
    assert find_horovod(LIMIT_S) == Horovod("0.28.1", "2.18.0", "Open MPI")


def test_a_slurm_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = "echo 'JobId=17 NumTasks=4 TimeLimit=01:00:00 X=1'"
    script = "printf '#!/bin/bash\\n#SBATCH --signal=B:USR1@60\\n'"
    program(tmp_path, "scontrol", f'[ "$1 $2" = "show job" ] && {shown} || {script}')
    program(tmp_path, "srun", "echo 'MPI plugin types are...' >&2; printf '\\tnone\\n\\tpmi2\\n' >&2")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    environ = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_CPUS_PER_TASK": "2"}
    assert find_slurm(environ, LIMIT_S) == Slurm("17", 4, 2, "01:00:00", "B:USR1@60", ("pmi2",))
    assert find_slurm({}, LIMIT_S) is None


def test_slurm_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "scontrol", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    assert find_slurm({"SLURM_JOB_ID": "17"}, LIMIT_S) == Slurm("17")


def test_interfaces(tmp_path: Path) -> None:
    for name, kind, state, speed in (
        ("lo", "772", "unknown", ""),
        ("docker0", "1", "up", "10000"),
        ("eth0", "1", "down", "-1"),
        ("eth1", "1", "up", "25000"),
        ("eth2", "1", "unknown", "1000"),
        ("ib0", "32", "up", ""),
    ):
        for file, text in (("type", kind), ("operstate", state), ("speed", speed)):
            path = tmp_path / "net" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
    port = tmp_path / "infiniband" / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "rate").write_text("200 Gb/sec (4X HDR)\n")
    (port / "state").write_text("4: ACTIVE\n")
    assert interfaces(tmp_path / "net") == (
        Interface("eth0", False, 0),
        Interface("eth1", True, 25_000),
        Interface("eth2", True, 1000),
        Interface("ib0", True, 0, "InfiniBand"),
        Interface("mlx5_0", True, 200_000, "InfiniBand"),
    )


def test_facts_travel_between_processes() -> None:
    local = Local(RANKS[2], NODES[1])
    assert read_local(msgspec.json.encode(local).decode()) == local


def test_too_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "MB free, and 9000000 ranks of MPICH 5 take about" in shortage("MPICH 5", {"MPI_LOCALNRANKS": "9000000"})
    assert shortage("MPICH 5", {}) == ""
    monkeypatch.setattr("hpcnn.tools.doctor.shared_memory.SHM", "/nonexistent")
    assert shortage("MPICH 5", {"MPI_LOCALNRANKS": "2"}).startswith("there is no /nonexistent")


# ---------------------------------------------------------------------------------------- ranks that only seem to be

STARTED = """printf 'hpcnn-doctor {"stage": "starting MPI", "library": "MPICH 5"}\\n';"""


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("echo 'Fatal error in MPI_Init' >&2; echo more >&2; exit 9", "Fatal error in MPI_Init"),
        ("exit 9", "it ended with code 9"),
        ("kill -SEGV $$", "it ended with code -11"),
        ("echo 'EXIT STRING: Bus error (signal 7)'; exit 7", "EXIT STRING: Bus error (signal 7)"),
        ("echo 'waiting for godot' >&2; sleep 60", "no answer within 1 s; the last words: waiting for godot"),
        ('printf \'hpcnn-doctor {"error": "of another MPI"}\\n\'; exit 1', "of another MPI"),
    ],
    ids=["message", "silent", "killed", "told by mpirun", "hanging", "error"],
)
def test_what_is_known_of_ranks_that_fail(tmp_path: Path, body: str, error: str) -> None:
    launcher = program(tmp_path, "mpirun", STARTED + body)
    limit_s = 1.0 if body.endswith("sleep 60") else LIMIT_S
    found = probe_alone([launcher, "-n", "2"], os.environ, limit_s, measure=False)
    assert (found.stage, found.library, found.error) == ("starting MPI", "MPICH 5", error)
    assert found.command == f"{launcher} -n 2"


def test_chatter_is_no_answer(tmp_path: Path) -> None:
    launcher = program(tmp_path, "mpirun", f"{STARTED} for line in $(seq 50); do echo chatter; sleep 0.1; done")
    assert probe_alone([launcher], os.environ, 1.0, measure=False).error.startswith("no answer within 1 s")


def test_each_fact_begins_the_time_anew(tmp_path: Path) -> None:
    launcher = program(tmp_path, "mpirun", f"for step in 1 2 3 4 5 6 7; do {STARTED} sleep 0.5; done")
    assert probe_alone([launcher], os.environ, 3.0, measure=False).error == ""


@pytest.mark.parametrize(
    ("text", "why"), [("#!/gone/python\n", "No such file or directory"), ("\x7fELF", "Exec format error")]
)
def test_a_launcher_that_can_not_be_started(tmp_path: Path, text: str, why: str) -> None:
    launcher = program(tmp_path, "mpirun", "")
    Path(launcher).write_text(text)
    found = probe_alone([launcher, "-n", "2"], os.environ, LIMIT_S, measure=False)
    assert found == Probe(f"{launcher} -n 2", error=f"{launcher} can't be started ({why})")


def test_a_whole_examination_with_a_launcher_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path, "mpirun", f"{STARTED} exit 9")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith(("PMI_", "OMPI_", "SLURM_", "HPCNN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("hpcnn.tools.doctor.local.use_one_thread", lambda: None)  # for other tests in this process
    monkeypatch.chdir(tmp_path)
    assert doctor.main(["--quick", "--json", "--limit", "5"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["level"] == "problem"
    assert {"check": "launcher", "level": "problem"}.items() <= told["findings"][0].items()
    assert told["evidence"]["probe"]["error"] == "it ended with code 9"
    assert [path.name for path in tmp_path.iterdir()] == ["mpirun"]


def test_beside_this_python_a_launcher_is_found_too() -> None:
    path = examine_module._search_path({"PATH": "/a:/b"})
    assert path == f"/a:/b:{Path(sys.executable).parent}"
