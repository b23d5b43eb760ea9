"""The definition for Apptainer and the Dockerfile describe one image; `tests.containers.check` builds it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.require import missing
from tests.timing import WAIT_S

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "containers"
DEFINITION = (FOLDER / "hpcnn.def").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()


def section(name: str) -> list[str]:
    """Return the lines of all sections of this name, stripped."""
    found = re.findall(rf"^%{re.escape(name)}\n((?:    .*\n)+)", DEFINITION, re.MULTILINE)
    return [line.strip() for text in found for line in text.splitlines()]


def test_both_copy_the_same_files() -> None:
    copied = re.findall(r"^COPY (?!--from)(\S+ \S+)$", DOCKERFILE, re.MULTILINE)
    assert section("files") == copied
    assert section("files from build") == re.findall(r"^COPY --from=build (\S+ \S+)$", DOCKERFILE, re.MULTILINE)
    sources = [line.split()[0] for line in copied]
    assert all((ROOT / source).exists() for source in sources)
    assert sources == [line[1:] for line in IGNORED if line.startswith("!")]


def test_both_run_the_same_commands() -> None:
    ran = " && ".join(re.findall(r"^RUN (.*)$", DOCKERFILE, re.MULTILINE)).replace("$MPI", "{{ MPI }}")
    assert " && ".join(section("post")) == ran.replace("$EXTRAS", "{{ EXTRAS }}")
    assert section("arguments") == re.findall(r"^ARG (.*)$", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^From: (.*)$", DEFINITION, re.MULTILINE) == re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    (path,) = re.findall(r"^ENV (PATH=.*)$", DOCKERFILE, re.MULTILINE)
    assert f"export {path}" in section("environment")


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        ([], {}, "expected 'wheel SOURCE FOLDER' or 'hpcnn FOLDER', not ''"),
        (["wheel", "/src"], {}, "expected 'wheel SOURCE FOLDER' or 'hpcnn FOLDER', not 'wheel /src'"),
        (["hpcnn", "/none"], {"MPI": "lam"}, "MPI=lam: expected mpich, openmpi or none"),
        (["hpcnn", "/none"], {"MPI": "none"}, "no wheel of hpcnn: /none/hpcnn-*.whl"),
    ],
)
def test_the_script_refuses(words: list[str], environment: dict[str, str], message: str) -> None:
    """There is no program on its path: it could do nothing if it did not refuse."""
    script = ["/bin/sh", FOLDER / "install.sh", *words]
    env = {"PATH": "/nonexistent", **environment}
    done = subprocess.run(script, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (2, f"install.sh: {message}\n")


@pytest.mark.parametrize("script", [FOLDER / "install.sh", Path(__file__).with_name("apptainer")], ids=lambda p: p.name)
def test_scripts_are_valid(script: Path) -> None:
    if shutil.which("shellcheck") is None:
        missing("shellcheck is not installed")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
