"""The commands as processes: light, known to `hpcnn`, and silent where they should be."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.timing import WAIT_S

COMMANDS = ["submit", "status", "logs", "cancel", "sweep"]
EXAMPLE = Path(__file__).parents[2] / "slurm" / "learning_rates.toml"
START_LIMIT_S = 0.3


def hpcnn(*arguments: str, cwd: Path, path: str = "/nowhere") -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "hpcnn", *arguments]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=WAIT_S)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, tmp_path: Path) -> None:
    done = hpcnn(command, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: hpcnn {command}")


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_heavy_is_imported(command: str, tmp_path: Path) -> None:
    arguments = {"sweep": ["list", str(EXAMPLE)], "submit": ["--dry-run", "--time", "5"], "status": []}
    code = f"""
import sys
from hpcnn.__main__ import main
main({[command, *arguments.get(command, ["x"])]!r})
print(*[name for name in ("numpy", "mpi4py") if name in sys.modules], file=sys.stderr)
"""
    environ = os.environ | {"PATH": "/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "SLURM_CONF": "/dev/null"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, timeout=WAIT_S)
    assert done.stderr.splitlines()[-1] == b""


def test_they_start_at_once(tmp_path: Path) -> None:
    def cpu_seconds() -> float:
        """Return what one start takes: of the processor, since other tests may run at the same time."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert hpcnn("status", cwd=tmp_path).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(5)) < START_LIMIT_S


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    (tmp_path / "many.toml").write_text(f"[values]\ntrain.seed = {list(range(9999))}\n")
    command = f"{sys.executable} -m hpcnn sweep list many.toml | head -n 1"
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=WAIT_S
    )
    assert (done.stdout, done.stderr) == ("0  train.seed=0\n", "")


def test_a_terminal_of_another_character_set(tmp_path: Path) -> None:
    (tmp_path / "runs" / "ü").mkdir(parents=True)
    (tmp_path / "runs" / "ü" / "result.json").write_text("{}")
    environ = os.environ | {"PATH": "/nowhere", "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "hpcnn", "status", "--follow"]
    environ |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "- runs/\\xfc:  done\n", "")
