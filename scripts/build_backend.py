"""Build backend: scikit-build-core, and what it lacks. Where there is no C compiler, the package ziglang is required.

An editable install builds the compiled core beside its sources, where every interpreter that runs the checkout finds
it, and puts the checkout on the path; it hooks into no import.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from scikit_build_core import build as backend

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from hpcnn.kernels.build import BuildError, build_in_place, compiler  # noqa: E402

Settings = dict[str, "list[str] | str"] | None
_PATH_ONLY = {"wheel.cmake": "false", "wheel.packages": [], "wheel.exclude": "hpcnn/", "wheel.py-api": "py3"}

get_requires_for_build_sdist = backend.get_requires_for_build_sdist
prepare_metadata_for_build_wheel = backend.prepare_metadata_for_build_wheel
build_sdist = backend.build_sdist


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return what is installed before the build: CMake and Ninja where they are missing, and a C compiler."""
    return backend.get_requires_for_build_wheel(config_settings) + _compiler_requirement()


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return what is installed before the build: as for a wheel."""
    return backend.get_requires_for_build_editable(config_settings) + _compiler_requirement()


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build the wheel."""
    cc = compiler()
    if cc:
        os.environ["CC"] = cc
    return backend.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Build the core in place, and a wheel that has the path of the checkout alone."""
    try:
        build_in_place()
    except BuildError as error:
        sys.exit(f"hpcnn can't be built: {error}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hpcnn.pth")
        path.write_text(f"{ROOT}\n", encoding="utf-8")
        settings = _PATH_ONLY | {f"wheel.force-include.{path}": path.name}
        return backend.build_wheel(wheel_directory, settings, metadata_directory)


def _compiler_requirement() -> list[str]:
    try:
        compiler()
    except BuildError:
        return ["ziglang>=0.13"]
    return []
