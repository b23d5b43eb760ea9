"""Build the wheel for any Linux with glibc 2.28 or later and this kind of processor: python -m scripts.wheel FOLDER."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys

from hpcnn.kernels.build import GLIBC, zig
from scripts import build_backend


def main(folder: str) -> None:
    """Build the wheel into `folder`, and check by auditwheel that it is what its name says."""
    os.environ["CC"] = zig()
    tag = f"manylinux_2_{GLIBC}_{platform.machine()}"
    name = build_backend.build_wheel(folder, {"wheel.tags": [f"cp311-abi3-{tag}"]})
    command = [sys.executable, "-m", "auditwheel", "show", os.path.join(folder, name)]  # noqa: PTH118
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r'"manylinux_2_(\d+)_', shown)
    if not found or int(found[1]) > GLIBC:
        sys.exit(f"{name} is no {tag}:\n{shown}")


if __name__ == "__main__":
    main(sys.argv[1])
