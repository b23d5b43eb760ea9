"""Finding the terminal, for real: with pseudo-terminals, and with a program that is named as a launcher."""

import fcntl
import os
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpcnn.system.terminal import terminal_path, terminal_size
from tests.timing import WAIT_S

ROOT = Path(__file__).parents[2]
SAY = "import sys; from hpcnn.system.terminal import terminal_path; print(terminal_path(), file=sys.stderr)"
LAUNCHER = f"""#!{sys.executable}
import os, subprocess, sys
output = os.openpty()[1] if "pty" in sys.argv else subprocess.PIPE
child = subprocess.Popen([sys.executable, "-c", {SAY!r}], stdout=output)
child.communicate()
sys.exit(child.returncode)
"""


@contextmanager
def terminal(columns=0, lines=0):
    """Give the descriptor and the path of a new pseudo-terminal."""
    controller, device = os.openpty()
    fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    try:
        yield device, os.ttyname(device)
    finally:
        os.close(controller)
        os.close(device)


def said(command, stdout):
    """Return what a process says of its terminal, when its output goes to `stdout`."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=env, timeout=WAIT_S, check=True
    )
    return done.stderr.strip()


def launcher(tmp_path, name):
    path = tmp_path / name
    path.write_text(LAUNCHER)
    path.chmod(0o755)
    return [str(path)]


def test_output_that_goes_straight_to_a_terminal():
    with terminal() as (device, path):
        assert said([sys.executable, "-c", SAY], device) == path


def test_output_that_goes_to_a_file_or_pipe(tmp_path):
    with (tmp_path / "log").open("w") as file:
        assert said([sys.executable, "-c", SAY], file) == "None"
    assert said([sys.executable, "-c", SAY], subprocess.PIPE) == "None"


@pytest.mark.parametrize("name", ["mpirun", "mpiexec.hydra", "prterun", "srun"])
def test_a_rank_asks_its_launcher(tmp_path, name):
    with terminal() as (device, path):
        assert said(launcher(tmp_path, name), device) == path
    with (tmp_path / "log").open("w") as file:
        assert said(launcher(tmp_path, name), file) == "None"


@pytest.mark.parametrize("name", ["mpirun", "prterun"])
def test_a_terminal_that_the_launcher_made_does_not_count(tmp_path, name):
    """Open MPI gives rank 0 one, also where all its output goes to a log."""
    with terminal() as (device, path):
        assert said([*launcher(tmp_path, name), "pty"], device) == path
    with (tmp_path / "log").open("w") as file:
        assert said([*launcher(tmp_path, name), "pty"], file) == "None"


def test_any_other_program_above_is_not_asked(tmp_path):
    """As ``hpcnn.train | less`` in a script: what it shows is its own business."""
    with terminal() as (device, _):
        assert said(launcher(tmp_path, "tee (1)"), device) == "None"


def test_without_proc_there_is_no_terminal(monkeypatch):
    def refuse(self):
        raise OSError("no /proc")

    monkeypatch.setattr(Path, "readlink", refuse)
    assert terminal_path() is None


@pytest.mark.parametrize(("given", "size"), [((100, 30), (100, 30)), ((0, 0), (80, 24)), ((132, 0), (132, 24))])
def test_size(given, size):
    with terminal(*given) as (_, path):
        assert terminal_size(path) == size


def test_size_where_there_is_none(tmp_path):
    (tmp_path / "file").touch()
    assert terminal_size(str(tmp_path / "file")) == (80, 24)
    assert terminal_size(str(tmp_path / "missing")) == (80, 24)
