"""Make the report page of the documentation, from a real run of the digits: python -m scripts.report_page OUT.html.

docs/digits-report.html is its output. Needs an mpirun that fits mpi4py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEASURED = ("--set", "run.noise_scale_every=10")
TRAIN = ("mpirun", "-n", "2", sys.executable, "-m", "hpcnn.train", "jobs/digits_mlp.toml", "--quiet", *MEASURED)
REPORT = (sys.executable, "-m", "hpcnn.report", "runs/digits_mlp", "--title", "Digits on 2 ranks", "-o")


def main() -> int:
    """Train, write the page to the file that is named, and return the exit code."""
    out = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs").symlink_to(ROOT / "jobs")
        for command in (TRAIN, (*REPORT, str(out))):
            subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
