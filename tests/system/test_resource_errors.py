"""What a process was not given (memory, threads, a folder) is one message of each command, without a stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnn.cli.serial import run_serial
from hpcnn.errors import DataError
from hpcnn.runs.predictions import check_output
from hpcnn.system.resource_errors import explain_resource_error
from tests.timing import WAIT_S

ROOT = Path(__file__).parents[2]
MEMORY = "there is too little memory"
THREADS = "the system lets this process start no more threads"
NUMPY_SAYS = "numpy is broken\n\nOriginal error: x.so: failed to map segment from shared object\n"
FAILURES = {
    "memory": (MemoryError(), f"{MEMORY}. Give more"),
    "array": (
        MemoryError("Unable to allocate 3 GiB for an array"),
        f"{MEMORY} (Unable to allocate 3 GiB for an array)",
    ),
    "system": (OSError(12, "Cannot allocate memory"), MEMORY),
    "import": (ImportError(NUMPY_SAYS), f"{MEMORY} (Original error: x.so: failed to map segment from shared object)"),
    "thread": (RuntimeError("can't start new thread"), THREADS),
    "thread of C": (RuntimeError("unable to start watchdog thread"), THREADS),
}


def run(*arguments: str, cwd: Path = ROOT, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run Python from a shell that does `before` first."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", f'{before}\nexec "$0" "$@"', sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.mark.parametrize("case", FAILURES)
def test_one_message_without_a_stack(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, message = FAILURES[case]

    def body() -> int:
        raise error

    assert run_serial(body) == (1 if "thread" in case else 2)
    said = capsys.readouterr().err
    assert said.startswith(f"hpcnn: error: {message}")
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), RuntimeError("no"), OSError(2, "gone"), ImportError()])
def test_other_errors_keep_their_stack(error: Exception) -> None:
    def body() -> int:
        raise error

    assert explain_resource_error(error) is None
    with pytest.raises(type(error)):
        run_serial(body)


@pytest.mark.parametrize("where", ["body(comm)", "threading.Thread(target=body, args=(comm,)).start()"])
def test_commands_with_ranks_say_the_place_too(where: str) -> None:
    code = f"""
import sys, threading, time
from hpcnn.cli.parallel import run_parallel
def body(comm):
    raise MemoryError("Unable to allocate 3 GiB")
def begin(comm):
    {where}
    time.sleep({WAIT_S})
sys.exit(run_parallel(begin))
"""
    done = run("-c", code)
    assert done.returncode == 2
    assert f"{MEMORY} (Unable to allocate 3 GiB)" in done.stderr
    assert "hpcnn: error: rank 0 on " in done.stderr
    assert "Traceback" not in done.stderr


def test_numpy_that_finds_no_room() -> None:
    code = f"""
import sys
class NoRoom:
    def find_spec(self, name, path, target=None):
        if name == "numpy":
            raise ImportError({NUMPY_SAYS!r})
sys.meta_path.insert(0, NoRoom())
from hpcnn.train import main
sys.exit(main(["--quiet"]))
"""
    done = run("-c", code)
    assert done.returncode == 2
    assert f"connecting: {FAILURES['import'][1]}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_working_folder_that_was_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    done = run("-m", "hpcnn", "submit", cwd=folder, before="rmdir ../folder")
    assert done.returncode == 2
    words = "the working folder was deleted: change to another one with cd, and start again."
    assert done.stderr == f"hpcnn: error: {words}\n"


def test_predictions_are_not_computed_for_a_place_that_can_not_be_written() -> None:
    with pytest.raises(DataError, match=r"can't write '/proc/outputs.npy' \(.*\)\. Give another file by -o\."):
        check_output(Path("/proc/outputs.npy"), writes=True)


def test_predictions_may_go_to_any_other_place(tmp_path: Path) -> None:
    check_output(tmp_path / "outputs.npy", writes=True)
    check_output(Path("/proc/outputs.npy"), writes=False)  # another rank writes, maybe on another node
    assert list(tmp_path.iterdir()) == []


def test_help_without_docstrings() -> None:
    done = run("-OO", "-m", "hpcnn.train", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Synthetic data of any size" in " ".join(done.stdout.split())
