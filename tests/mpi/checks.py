"""What scripts of checks have in common."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def run_checks(namespace: Mapping[str, Any], hvd: Any, backend: str = "") -> None:
    """Run every function of a module whose name begins with ``check_``, and say so on rank 0.

    Args:
        namespace: of the module.
        hvd: `hpcnn.keras` or `hpcnn.torch`.
        backend: what is checked.
    """
    checks = [check for name, check in namespace.items() if name.startswith("check_")]
    for check in checks:
        check()
    if hvd.rank() == 0:
        sys.stdout.write(f"{len(checks)} checks passed on {hvd.size()} ranks{backend and f' with {backend}'}\n")
