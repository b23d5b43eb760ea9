"""The kernels of each instruction set that this machine runs, and their scalar references."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernels.build import build_core_of_aarch64, build_kernels, build_reference, variants
from tests.kernels.core import Core


@pytest.fixture(scope="session")
def kernels_folder(pytestconfig: pytest.Config) -> Path:
    """Where what was compiled is kept from one run to the next."""
    assert pytestconfig.cache
    return pytestconfig.cache.mkdir("kernels")


@pytest.fixture(scope="session")
def cores(kernels_folder: Path) -> list[Core]:
    """All instruction sets of this machine, the narrowest first: all must give the same bits."""
    return [Core(isa, build_kernels(isa, kernels_folder)) for isa in variants()]


@pytest.fixture(scope="session", params=variants())
def core(request: pytest.FixtureRequest, kernels_folder: Path) -> Core:
    """One instruction set after the other."""
    return Core(request.param, build_kernels(request.param, kernels_folder))


@pytest.fixture(scope="session")
def reference(kernels_folder: Path) -> Core:
    """The scalar references of reference.c, which are called as kernels are."""
    return Core("reference", build_reference(kernels_folder))


@pytest.fixture(scope="session")
def core_of_aarch64(kernels_folder: Path) -> Path:
    """Return the folder with the core for AArch64 and its objects."""
    return build_core_of_aarch64(kernels_folder)
