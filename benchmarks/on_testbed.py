"""Run a benchmark on several hosts made on this machine, with wires of a given speed between them. Needs root.

python -m benchmarks.on_testbed --rate-mbit 1000 -- benchmarks.wire --rate-mbit 1000
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.mpi.launch import mpich
from tests.mpi.nodes import Testbed, unavailable


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
