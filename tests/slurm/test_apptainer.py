"""The template for containers, with a stand-in for Apptainer: it alone leads to Python and hpcnn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT
from tests.slurm.project import Project
from tests.timing import WAIT_S

# It takes the options that the template gives, and runs the command with the environment of these tests. `NAMESPACE`
# answers for a container with a user namespace of its own; `--sharens` is known where the word stands in `HELP`.
_STAND_IN = """#!/bin/bash
set -eu
[ "$1" = exec ]
shift
[ "$1" != --help ] || {{ echo "${{HELP:-}}"; exit; }}
echo "$*" >>{record}
while [[ $1 == --* ]]; do
    case $1 in
        --bind) [ -d "$2" ]; shift 2 ;;
        --env) export "$2"; shift 2 ;;
        --sharens) shift ;;
        *) exit 255 ;;
    esac
done
[ -e "$1" ]
shift
[ "$1" != readlink ] || [ -z "${{NAMESPACE:-}}" ] || {{ echo "$NAMESPACE"; exit; }}
PATH={bin}:$PATH PYTHONPATH={root} exec "$@"
"""
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def stand_in(folder: Path) -> Path:
    """Make the program, and return the file in which it records its arguments."""
    record = folder / "record"
    program = folder / "bin" / "apptainer"
    program.parent.mkdir()
    program.write_text(_STAND_IN.format(record=record, bin=Path(sys.executable).parent, root=ROOT))
    program.chmod(0o755)
    (folder / "hpcnn.sif").touch()
    return record


def test_ranks_in_a_container_give_the_bits_of_one_rank(project: Project, tmp_path: Path, undisturbed: str) -> None:
    record = stand_in(tmp_path)
    libraries = Path(sys.prefix) / "lib"
    environment = {
        "PATH": f"{tmp_path}/bin:{_PATH}",
        "PYTHONPATH": "",
        "HPCNN_IMAGE": str(tmp_path / "hpcnn.sif"),
        "HPCNN_HOST_MPI": str(libraries),
        "HPCNN_BIND": str(tmp_path),
        "NAMESPACE": "user:[1]",
        "HELP": "--sharens",
    }
    job = project.submit(template="apptainer", environment=environment)
    assert project.cluster.wait(job) == "COMPLETED", project.output(job)
    assert project.sha256(job) == undisturbed
    asked, *started = [line for line in record.read_text().splitlines() if "/hpcnn.sif " in line]
    assert asked.endswith("/hpcnn.sif readlink /proc/self/ns/user")
    assert ["python -P -c import mpi4py" in words for words in started] == [True] + 4 * [False]
    folders = (project.folder, (ROOT / "jobs").resolve(), libraries, tmp_path)
    for words in started:
        assert all(f"--bind {folder} " in words for folder in folders), words
        assert f"--env MPI4PY_LIBMPI={libraries} --env LD_LIBRARY_PATH={libraries} " in words
        assert " --sharens " in words
    # What a node names for itself, Slurm's TmpFS and the ranks' own folder for temporary files, each rank binds.
    assert all(re.match(r"--bind (\S+/node[12]) --bind \1/tmp ", words) for words in started[1:])


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "HPCNN_IMAGE is not set. Name the image, in "),
        ({"HPCNN_IMAGE": "none.sif"}, "HPCNN_IMAGE='none.sif': there is no such image"),
        ({"HPCNN_IMAGE": "{0}/hpcnn.sif", "HPCNN_APPTAINER": "nonsense"}, "no 'nonsense' on node7. Load its module"),
        ({"HPCNN_IMAGE": "{0}/hpcnn.sif", "HPCNN_HOST_MPI": "{0}:/no/lib"}, "there is no folder '/no/lib' on node7"),
        ({"HPCNN_IMAGE": "{0}/hpcnn.sif", "HPCNN_HOST_MPI": "{0}/a,b"}, "/a,b' can't be bound: "),
        ({"HPCNN_IMAGE": "{0}/hpcnn.sif", "HPCNN_BIND": "/no"}, "hpcnn.sif' can't be run on node7: see above"),
    ],
)
def test_a_container_that_can_not_be_run(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    stand_in(tmp_path)
    (tmp_path / "a,b").mkdir()
    slurm = {"SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": str(ROOT), "SLURMD_NODENAME": "node7"}
    env = {"PATH": f"{tmp_path}/bin:{_PATH}", "HPCNN_SLURM_DIR": str(ROOT / "slurm"), **slurm}
    env |= {name: value.format(tmp_path) for name, value in environment.items()}
    script = ["bash", ROOT / "slurm" / "apptainer.sbatch", "--out", "a-run"]
    done = subprocess.run(script, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "a-run").exists()


@pytest.mark.parametrize(("known", "words"), [("--sharens", ""), ("", "send what they would share")])
def test_ranks_that_would_not_see_each_other(tmp_path: Path, known: str, words: str) -> None:
    """The ranks get a user namespace in common, or MPICH is told not to read what it may not."""
    stand_in(tmp_path)
    template = (ROOT / "slurm" / "apptainer.sbatch").read_text()
    functions = template[template.index("# Sets `container`") : template.index('\nread_arguments "$@"')]
    shown = 'echo "${container[*]} CMA=${MPIR_CVAR_CH4_CMA_ENABLE:-} LINK=${UCX_POSIX_USE_PROC_LINK:-}"'
    script = f"source {ROOT}/slurm/lib.sh; {functions}\nread_arguments; enter_container; {shown}"
    env = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SLURM_JOB_ID": "1",
        "SLURMD_NODENAME": "node7",
        "slurm": f"{ROOT}/slurm",
        "HPCNN_IMAGE": f"{tmp_path}/hpcnn.sif",
        "NAMESPACE": "user:[1]",
        "HELP": known,
    }
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert ("--sharens" in done.stdout) == bool(known)
    assert done.stdout.endswith("CMA= LINK=\n" if known else "CMA=0 LINK=n\n")
    assert words in done.stderr
