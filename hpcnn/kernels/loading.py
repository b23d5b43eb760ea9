"""Load the compiled module. In a checkout, where its sources lie beside it, it is first brought up to date."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import NoReturn

from hpcnn.errors import MissingCoreError
from hpcnn.kernels.files import FOLDER, MODULE, built, newest_source

_WITHOUT = 'Or set train.arithmetic = "numpy", another definition of the result, which needs no compiled core.'


def bring_up_to_date() -> None:
    """Compile the module of a checkout if it is older than a source.

    Ranks do so before anything watches their progress: one compiles, for minutes, and the others wait for it. If it
    fails, `load_core` says why, to whoever needs the module.
    """
    _why_not_built(newest_source())


def load_core() -> ModuleType:
    """Return the compiled module.

    Raises:
        MissingCoreError: it is not there, is that of another machine, or is older than its sources and can't be built.
    """
    if why := _why_not_built(newest_source()):
        what = "is older than its sources" if MODULE.exists() else "is not built"
        _fail(f"The compiled core {MODULE} {what}, and can't be built here: {why}")
    try:
        return importlib.import_module("hpcnn.kernels.core")
    except ModuleNotFoundError:
        _fail(f"There is no compiled core {MODULE} for this Python.")
    except ImportError as error:
        if "HPCNN_ISA" in str(error):
            raise MissingCoreError(str(error)) from None
        _fail(f"The compiled core {MODULE} can't be loaded, as if it were built for another machine: {error}.")


@cache
def find_core() -> ModuleType | None:
    """Return the compiled module, or None where it can't be loaded: for what it only makes faster."""
    try:
        return load_core()
    except MissingCoreError:
        return None


@cache
def _why_not_built(newest: int) -> str:
    """Build the module if it is older than `newest`, and return why that fails; what has failed is not tried again."""
    if newest <= built():
        return ""
    from hpcnn.kernels.build import BuildError, build_in_place

    try:
        build_in_place(on_import=True)
    except BuildError as error:
        return str(error)
    return ""


def _fail(problem: str) -> NoReturn:
    root = FOLDER.parents[1]
    remedy = (
        f"Run `pip install -e .` in {root}, with this Python."
        if (root / "pyproject.toml").exists()
        else "Install hpcnn again on this machine: pip install --force-reinstall --no-deps hpcnn."
    )
    raise MissingCoreError(f"{problem} {remedy} {_WITHOUT}") from None
