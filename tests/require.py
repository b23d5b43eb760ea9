"""Optional components in tests: skip where they are missing, or fail where the environment forbids that."""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

import pytest


def require(module: str) -> Any:
    """Return `module`, or skip the test; with HPCNN_REQUIRE_ALL=1 a missing module fails it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing(f"{module} can't be imported: {error}")


def missing(what: str) -> NoReturn:
    """Skip the test, which needs `what`; with HPCNN_REQUIRE_ALL=1 fail it."""
    if os.environ.get("HPCNN_REQUIRE_ALL") == "1":
        pytest.fail(f"HPCNN_REQUIRE_ALL=1, but {what}")
    pytest.skip(what)
