"""Bring Python and NumPy for AArch64 into a folder, to be run by an emulator: -m tests.kernels.aarch64 FOLDER.

Packages of Debian and wheels are unpacked: nothing is installed on this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

PACKAGES = "python3-minimal", "libpython3-stdlib", "libstdc++6"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def bring(folder: Path) -> None:
    """Unpack the system into ``root``, and what hpcnn depends on into ``site``."""
    root = folder / "root"
    for archive in debian_packages(folder / "apt"):
        subprocess.run(["dpkg-deb", "-x", archive, root], check=True)
    (python,) = (path for path in (root / "usr/bin").glob("python3.*") if path.name[8:].isdigit())
    needs = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    platforms = [f"--platform=manylinux_2_{glibc}_aarch64" for glibc in (17, 27, 28)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]
    command += [str(folder / "site"), "--only-binary=:all:", f"--python-version={python.name[6:]}", *platforms]
    subprocess.run([*command, *needs], check=True)


def debian_packages(folder: Path) -> list[Path]:
    """Return the archives of the packages and of all that they need, by an apt that knows of no other system."""
    for inner in ("state/lists/partial", "cache/archives/partial"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    (folder / "state/status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
        "Dir::Cache": str(folder / "cache"),
        "Dir::State": str(folder / "state"),
        "Dir::State::status": str(folder / "state/status"),
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    subprocess.run([*apt, "update"], check=True)
    command = [*apt, "install", "--download-only", "--yes", "--no-install-recommends", *PACKAGES]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"})
    return sorted((folder / "cache/archives").glob("*.deb"))


if __name__ == "__main__":
    bring(Path(sys.argv[1]).absolute())
