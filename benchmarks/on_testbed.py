"""Run a benchmark on several hosts made on this machine, with wires of a given speed between them. Needs root.

python -m benchmarks.on_testbed --rate-mbit 1000 -- benchmarks.wire --rate-mbit 1000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.mpi.launch import mpich
from tests.mpi.nodes import Testbed, unavailable


def figures_of(module: str, words: Sequence[str], ranks: Sequence[int], **network: float) -> dict[str, Any]:
    """Return what a benchmark writes by ``--json`` on hosts of that network; if it fails, show that, and exit."""
    with Testbed(len(ranks), **network) as testbed, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = ["-m", module, *words, "--json", str(path)]
        done = testbed.run(mpich(), ranks, *command, cwd=Path.cwd(), timeout_s=900)
        if done.returncode:
            sys.stderr.write(done.stdout + done.stderr)
            raise SystemExit(done.returncode)
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 1], metavar="N", help="on each node; 1 1")
    parser.add_argument("--rate-mbit", type=float, metavar="R", help="of each node's wire; unlimited if left out")
    parser.add_argument("--latency-us", type=float, metavar="L", help="of the wires; as little as can be if left out")
    parser.add_argument("module", help="the benchmark")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="its arguments")
    given = parser.parse_args()
    trouble = unavailable(latency=given.latency_us is not None)
    if trouble:
        sys.stderr.write(f"no nodes can be made here: {trouble}\n")
        return 2
    with Testbed(len(given.ranks), given.rate_mbit, latency_us=given.latency_us) as testbed:
        done = testbed.run(mpich(), given.ranks, "-m", given.module, *given.arguments, cwd=Path.cwd(), timeout_s=900)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
