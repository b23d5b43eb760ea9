"""What a person sees: a live display in a terminal, also under mpirun, plain lines in a file, one line when quiet."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi
from tests.require import missing
from tests.timing import WAIT_S

pytestmark = pytest.mark.timed

JOB = ROOT / "jobs" / "digits_mlp.toml"


@pytest.fixture
def tmux() -> str:
    found = shutil.which("tmux")
    if found is None:
        missing("tmux is not installed")
    return found


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("ranks", [0, 2])
def test_live_display_in_a_terminal(mpich: Mpi, tmux: str, tmp_path: Path, ranks: int, columns: int) -> None:
    """Under mpirun a rank writes to a pipe; the display finds the terminal behind the launcher."""
    launcher = f"{mpich.mpirun} -n {ranks} " if ranks else ""
    command = f"{launcher}{mpich.python} -m hpcnn.train {JOB} --set train.epochs=30; touch done; sleep 60"
    socket = ("-S", str(tmp_path / "socket"))
    start = ("new-session", "-d", "-s", "test", "-x", str(columns), "-y", "30", command)
    subprocess.run([tmux, *socket, *start], cwd=tmp_path, env=mpich.environment(), check=True)

    def screen() -> str:
        shown = subprocess.run([tmux, *socket, "capture-pane", "-p", "-t", "test"], capture_output=True, text=True)
        return shown.stdout

    try:
        seen, deadline = "", time.monotonic() + WAIT_S
        while not (tmp_path / "done").exists():
            assert time.monotonic() < deadline, screen()
            now = screen()
            seen = now if "samples/s" in now and "━" in now else seen
            time.sleep(0.05)
        time.sleep(0.3)
        final = screen()
    finally:
        subprocess.run([tmux, *socket, "kill-server"], check=False)
    assert re.search(r"epoch .*━.* \d+/30", seen), seen
    assert re.search(r"step .*━.* \d+/23", seen), seen
    assert "loss" in seen
    assert max(map(len, seen.splitlines())) <= columns
    assert all(re.fullmatch(r".*\w \d\S*", value) for value in re.findall(r"\w*loss.{0,7}", seen)), "torn apart"
    assert "left 0:" in seen
    assert "━" not in final.split("result")[-1].split("weights")[-1]
    assert "val_accuracy" in final
    assert "weights sha256" in final


def test_plain_lines_elsewhere(mpich: Mpi, tmp_path: Path) -> None:
    done = mpich.run(2, "-m", "hpcnn.train", JOB, "--set", "train.epochs=3", cwd=tmp_path)
    assert "\x1b" not in done.stdout
    assert re.search(
        r"^digits_mlp: 2 ranks on 1 node, 8 gradient shards, results in runs/digits_mlp$", done.stdout, re.M
    )
    assert re.search(r"^epoch 3/3  loss 0\.\d+  accuracy 0\.\d+  val_loss .* samples/s", done.stdout, re.M)
    assert "result" in done.stdout


def test_lines_within_a_long_epoch(mpich: Mpi, tmp_path: Path) -> None:
    options = ("--set", "train.epochs=2", "--set", "run.log_every_s=1e-6")
    done = mpich.run(0, "-m", "hpcnn.train", JOB, *options, cwd=tmp_path)
    assert re.search(r"^epoch 1/2  step \d+/23", done.stdout, re.M), done.stdout


def test_quiet(mpich: Mpi, tmp_path: Path) -> None:
    done = mpich.run(2, "-m", "hpcnn.train", JOB, "--set", "train.epochs=1", "--quiet", cwd=tmp_path)
    assert re.fullmatch(r"weights sha256 [0-9a-f]{64}\n", done.stdout)
    assert done.stderr == ""


def test_help_is_printed_once(mpich: Mpi, tmp_path: Path) -> None:
    alone, together = (mpich.run(ranks, "-m", "hpcnn", "train", "--help", cwd=tmp_path) for ranks in (0, 3))
    assert "batch_size" in alone.stdout
    assert together.stdout == alone.stdout
