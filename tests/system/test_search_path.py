"""No command runs a file of the working folder for its name; users' own programs keep the rules of Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcnn.system.search_path import add_working_folder, leave_out_working_folder, started_as_module
from tests.timing import WAIT_S

ROOT = Path(__file__).parents[2]
NAMES = [
    *("argparse", "ast", "csv", "dataclasses", "difflib", "hashlib", "inspect", "json", "logging", "math", "msgspec"),
    *(
        "numpy",
        "queue",
        "random",
        "rich",
        "safetensors",
        "shutil",
        "signal",
        "socket",
        "statistics",
        "string",
        "struct",
    ),
    *("struct", "subprocess", "tempfile", "textwrap", "threading", "traceback", "typing"),
]
"""Modules that commands import. Those that Python imports for `python -m` itself, as functools, nobody can guard."""
JOB = """
model = { layers = [{ type = "dense", units = 1 }] }
loss = { name = "mse" }

[data]
source = "synthetic"
kind = "linear"
samples = 64
validation_fraction = 0.25

[train]
epochs = 1
"""
SCRIPT = """
import sys
from hpcnn.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a job among files that leave a trace if they are run."""
    folder = tmp_path_factory.mktemp("files") / "here"
    folder.mkdir()
    (folder / "job.toml").write_text(JOB)
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open('ran-{name}', 'w')\nraise SystemExit('{name}.py was run')\n")
    (folder.parent / "hpcnn-script").write_text(SCRIPT)
    return folder


def run(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": f"{path}{ROOT}"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.mark.parametrize("path", ["", ":"], ids=["", "empty entry"])
@pytest.mark.parametrize("start", [["-m", "hpcnn.train"], ["-mhpcnn", "train"], ["../hpcnn-script", "train"]], ids=str)
def test_files_of_the_working_folder_are_not_run(folder: Path, start: list[str], path: str) -> None:
    done = run(folder, *start, "job.toml", "--quiet", path=path)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in folder.glob("ran-*")] == []


def test_nor_by_processes_that_a_command_starts(folder: Path) -> None:
    done = run(folder, "-m", "hpcnn.doctor", "--quick", path=":")
    assert "Python" in done.stdout, done.stderr
    assert [file.name for file in folder.glob("ran-*")] == []


@pytest.mark.parametrize("start", [["program.py"], ["-m", "package.program"], ["-c", "import program"]], ids=str)
def test_a_program_of_a_users_finds_what_lies_beside_it(tmp_path: Path, start: list[str]) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("import hpcnn\n")
    for program in (tmp_path / "program.py", tmp_path / "package" / "program.py"):
        program.write_text("import hpcnn, csv\nhpcnn.connect()\nprint(csv.MINE)\n")
    (tmp_path / "csv.py").write_text("MINE = 'this is mine'\n")
    assert run(tmp_path, *start).stdout == "this is mine\n"


@pytest.mark.parametrize(
    ("line", "arguments", "started"),
    [
        ("python -m hpcnn.train job", ["-m", "job"], True),
        ("python -m hpcnn", ["-m"], True),
        ("python -Bmhpcnn.train job", ["-m", "job"], True),
        ("python -X importtime -m hpcnn.train -m", ["-m", "-m"], True),
        ("python -m mpi4py -m hpcnn.train job", ["hpcnn.train", "job"], True),
        ("python -m hpcnn_of_mine.train", ["-m"], False),
        ("python -m mine hpcnn", ["-m", "hpcnn"], False),
        ("python mine.py -m hpcnn", ["mine.py", "-m", "hpcnn"], False),
        ("python -c pass hpcnn", ["-c", "hpcnn"], False),
        ("python", [""], False),
        ("python", [], False),
        ("python", ["more", "than", "there", "were"], False),
    ],
)
def test_what_python_is_about_to_run(
    monkeypatch: pytest.MonkeyPatch, line: str, arguments: list[str], started: bool
) -> None:
    monkeypatch.setattr(sys, "orig_argv", line.split())
    monkeypatch.setattr(sys, "argv", arguments)
    assert started_as_module("hpcnn") is started


HERE = "/here"


@pytest.mark.parametrize(
    ("variable", "of_module", "before", "after"),
    [
        (None, True, [HERE, "/lib"], ["/lib"]),
        (None, False, [HERE, "/lib"], [HERE, "/lib"]),
        ("", True, [HERE, "/lib"], ["/lib"]),
        (":/mine", True, [HERE, HERE, "/mine", "/lib"], ["/mine", "/lib"]),
        (":/mine", False, [HERE, "/mine", "/lib"], ["/mine", "/lib"]),
        ("/mine:", False, ["/mine", HERE, "/lib"], ["/mine", "/lib"]),
        ("/here:/mine", True, [HERE, HERE, "/mine", "/lib"], [HERE, "/mine", "/lib"]),
        (":/here", False, [HERE, "/lib"], [HERE, "/lib"]),
        ("/mine", False, ["/mine", "/lib", HERE], ["/mine", "/lib", HERE]),
    ],
)
def test_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, of_module: bool, before: list[str], after: list[str]
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: HERE)
    monkeypatch.setattr(sys, "path", before)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if variable is not None:
        monkeypatch.setenv("PYTHONPATH", variable)
    leave_out_working_folder(of_module=of_module)
    assert sys.path == after


@pytest.mark.parametrize("before", [["/lib"], ["/lib", HERE], ["", "/lib"]])
def test_the_working_folder_comes_last_and_once(monkeypatch: pytest.MonkeyPatch, before: list[str]) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: HERE)
    monkeypatch.setattr(sys, "path", list(before))
    add_working_folder()
    add_working_folder()
    assert sys.path == (before if len(before) == 2 else ["/lib", HERE])
