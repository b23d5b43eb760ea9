"""Print the largest errors of the core's elementary functions: over all float32, and over random float64.

python -m scripts.ulp_errors          # some minutes
python -m scripts.ulp_errors 1009     # each 1009th number alone
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ["-std=gnu11", "-O2", "-ffp-contract=off", "-fno-math-errno", "-march=native", "-DISA=scalar"]


def main() -> None:
    """Compile, and run."""
    with tempfile.TemporaryDirectory() as folder:
        for bits in (32, 64):
            program = Path(folder) / f"errors_{bits}"
            source = [f"-DBITS={bits}", f"-I{HERE.parent / 'hpcnn' / 'kernels'}", str(HERE / "ulp_errors.c")]
            subprocess.run(["cc", *FLAGS, *source, "-o", program, "-lm"], check=True)
            subprocess.run([program, *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
