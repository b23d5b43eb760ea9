"""Which CMake and Ninja build the compiled core."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcnn.kernels.build import program_that_runs


def _program(folder: Path, text: str) -> Path:
    folder.mkdir()
    path = folder / "cmake"
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("broken", ["#!/bin/sh\nexit 1\n", "#!/nowhere/python\n"])
def test_a_program_that_does_not_start_is_passed_over(broken: str, tmp_path: Path) -> None:
    """As the `cmake` of an environment, which pip's isolation hides the package of that name from."""
    first = _program(tmp_path / "first", broken)
    second = _program(tmp_path / "second", "#!/bin/sh\nexit 0\n")
    path = os.pathsep.join(map(str, (tmp_path / "none", first.parent, second.parent)))
    assert program_that_runs("cmake", path) == str(second)
    assert program_that_runs("cmake", str(first.parent)) is None
