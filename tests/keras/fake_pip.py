"""Stands in for pip in the tests of the build: notes how it was called, and makes an empty wheel, or an error."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

LOG_OF_A_FAILURE = """\
Building wheels for collected packages: horovod
  [ 42%] Building CXX object horovod/tensorflow/mpi_ops.cc.o
  mpi_ops.cc:35:10: fatal error: nowhere.h: No such file or directory
  compilation terminated.
  ERROR: Failed building wheel for horovod
"""


def main(arguments: list[str]) -> int:
    """Do what the real one would."""
    note = {"arguments": arguments, "environment": dict(os.environ), "headers": headers()}
    with Path(os.environ["FAKE_PIP_NOTES"]).open("a") as notes:
        notes.write(json.dumps(note) + "\n")
    if "--target" in arguments:  # the next call sees only what lies there
        shutil.copytree(Path(__file__).parent, Path(arguments[arguments.index("--target") + 1], "pip"))
    if arguments[0] != "wheel":
        return 0
    if os.environ.get("FAKE_PIP_FAILS"):
        sys.stdout.write(LOG_OF_A_FAILURE)
        return 1
    folder = Path(arguments[arguments.index("--wheel-dir") + 1])
    folder.mkdir()
    (folder / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl").write_text(str(os.getpid()))
    return 0


def headers() -> list[str]:
    """Return the headers in the folder that the compiler is told to look into first."""
    flags = os.environ.get("CXXFLAGS", "").split()
    folders = [Path(flag[2:]) for flag in flags if flag.startswith("-I")]
    return sorted(str(file.relative_to(folder)) for folder in folders for file in folder.rglob("*.h"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))  # after an option that is in every call
