"""Optional modules in tests: skip where they are missing, unless the environment says that nothing may be missing."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def require(module: str) -> Any:
    """Return `module`, or skip the test; with HPCNN_REQUIRE_ALL=1 a missing module fails it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if os.environ.get("HPCNN_REQUIRE_ALL") == "1":
            pytest.fail(f"HPCNN_REQUIRE_ALL=1, but {module} can't be imported: {error}")
        pytest.skip(f"{module} is not installed")
