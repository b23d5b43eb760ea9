"""`hpcnn doctor` on real ranks, on machines that are sound and on machines that were made sick."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.mpi.launch import Mpi, finish
from tests.mpi.nodes import Testbed
from tests.require import missing

QUICK = ("-m", "hpcnn.doctor", "--quick", "--json")


def told(
    done: subprocess.CompletedProcess[str], codes: tuple[int, ...] = (1,)
) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """Return all that the doctor told, and level and sentence by the name of the check.

    The exit code is one of `codes` if it found a problem, else 0.
    """
    line = next((line for line in done.stdout.splitlines() if line.startswith("{")), None)
    assert line is not None, f"{done.stdout}\n{done.stderr}"
    everything = json.loads(line)
    assert done.returncode in (codes if everything["level"] == "problem" else (0,))
    return everything, {one["check"]: (one["level"], one["what"]) for one in everything["findings"]}


def start(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    return finish(process)


def test_sound_ranks(open_mpi: Mpi, tmp_path: Path) -> None:
    everything, findings = told(open_mpi.run(2, *QUICK, cwd=tmp_path))
    assert findings["launcher"] == ("ok", "mpirun of Open MPI: 2 ranks on 1 host see each other")
    assert findings["shared memory"][0] == findings["run folder"][0] == findings["versions"][0] == "ok"
    assert [level for level, _ in findings.values() if level == "problem"] == []
    assert [rank["rank"] for rank in everything["evidence"]["ranks"]] == [0, 1]
    assert len(everything["evidence"]["nodes"]) == 1
    assert "allreduce" not in findings
    assert list(tmp_path.iterdir()) == []


def test_speeds_are_measured_and_oversubscription_is_found(mpich: Mpi, tmp_path: Path) -> None:
    crowd = {"OMP_NUM_THREADS": "99", "OPENBLAS_NUM_THREADS": "99"}
    done = mpich.run(2, "-m", "hpcnn.doctor", "--json", cwd=tmp_path, environment=crowd)
    everything, findings = told(done)
    level, what = findings["BLAS threads"]
    assert level == "problem"
    assert "OPENBLAS_NUM_THREADS=99: 2 ranks on" in what
    assert "198 threads" in what
    times = everything["evidence"]["probe"]["pings"][0]["times"]
    assert [one["size"] for one in times] == [8, 2**10, 2**16, 2**20, 2**22]
    assert 0 < times[0]["seconds"] < times[-1]["seconds"]
    assert min(one["ours_s"] for one in everything["evidence"]["probe"]["sums"]) > 0
    assert "times as fast as MPI_Allreduce" in findings["allreduce"][1]


def test_alone_it_tries_the_launcher_out(mpich: Mpi, tmp_path: Path) -> None:
    everything, findings = told(mpich.run(0, *QUICK, cwd=tmp_path))
    assert findings["launcher"] == ("ok", f"{mpich.mpirun} -n 2: 2 ranks on 1 host see each other")
    assert everything["evidence"]["probe"]["library"].startswith("MPICH ")
    assert everything["evidence"]["probe"]["threads"] == "multiple"


def test_two_mpis_that_are_mixed(mpich: Mpi, open_mpi: Mpi, tmp_path: Path) -> None:
    environment = mpich.environment({"PATH": f"{mpich.prefix / 'bin'}:{open_mpi.prefix / 'bin'}:{os.environ['PATH']}"})
    command = [mpich.mpirun, "-n", "2", open_mpi.python, *QUICK]
    everything, findings = told(start(command, environment, tmp_path))
    level, what = findings["launcher"]
    assert level == "problem"
    assert "every rank would be rank 0 of 1" in what
    assert everything["findings"][0]["fix"] == f"{open_mpi.mpirun} -n 2 {open_mpi.python} -m hpcnn.doctor"


WAITING = "while [ ! -e done ]; do sleep 0.1; done"
DOCTOR = '{python} -m hpcnn.doctor --quick --json --limit 10; code=$?; touch done; exit "$code"'


def test_a_rank_that_never_comes(mpich: Mpi, tmp_path: Path) -> None:
    doctor = ["-n", "1", "sh", "-c", DOCTOR.format(python=mpich.python)]
    command = [mpich.mpirun, *doctor, ":", "-n", "1", "sh", "-c", WAITING]
    # The doctor kills its child that still connects; mpirun may see that first, and end the job with 9.
    everything, findings = told(start(command, mpich.environment(), tmp_path), codes=(1, 9))
    assert findings["launcher"] == ("problem", "the ranks failed while starting MPI: no answer within 10 s")
    assert len(everything["evidence"]["ranks"]) == 1


SMALL = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'


def test_too_little_shared_memory(mpich: Mpi, tmp_path: Path) -> None:
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        missing("a small /dev/shm needs root and mount namespaces")
    command = ["unshare", "-m", "sh", "-c", SMALL, "sh", mpich.mpirun, "-n", "2", mpich.python, *QUICK]
    _, findings = told(start(command, mpich.environment(), tmp_path))
    assert findings["/dev/shm"][0] == findings["launcher"][0] == "problem"
    assert "1 MB" in findings["/dev/shm"][1]
    assert "not started" in findings["launcher"][1]


def test_a_run_folder_that_nodes_have_not_in_common(nodes: Testbed, mpich: Mpi, tmp_path: Path) -> None:
    done = nodes.run(mpich, [1, 1], *QUICK, "--out", "/dev/shm/runs", cwd=tmp_path)
    everything, findings = told(done)
    assert findings["launcher"][1].endswith("2 ranks on 2 hosts see each other")
    assert findings["run folder"][0] == "problem"
    assert findings["run folder"][1].startswith("/dev/shm on node2 is another folder than on node1")
    assert [node["host"] for node in everything["evidence"]["nodes"]] == ["node1", "node2"]
