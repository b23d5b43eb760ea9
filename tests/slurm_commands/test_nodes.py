"""The nodes that a job which comes back may count on, as the batch scripts find them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.timing import WAIT_S

LIBRARY = Path(__file__).parents[2] / "slurm" / "lib.sh"
USABLE = ["idle", "alloc", "mix", "comp", "idle~", "alloc#", "mix-"]
OTHERS = ["down", "down*", "drain", "drain*", "drng", "fail", "failg", "unk", "idle*", "mix*"]
SCRIPT = """
    sinfo() { if [[ $* == *%t* ]]; then echo "$nodes"; else cut -d ' ' -f 1 <<<"$nodes"; fi; }
    scontrol() { tr , '\\n' <<<"$3"; }
    source <(sed -n '/^nodes_without() {/,/^}/p' "$library")
    nodes_without n1,n7
"""


def test_nodes_that_get_no_work_are_not_counted() -> None:
    nodes = "\n".join(f"n{number} {state}" for number, state in enumerate([*USABLE, *OTHERS]))
    settings = os.environ | {"nodes": nodes, "library": str(LIBRARY), "SLURM_JOB_PARTITION": "main"}
    result = subprocess.run(
        ["bash", "-c", SCRIPT], env=settings, capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert (result.stdout, result.stderr) == (f"{len(USABLE) - 1}\n", "")
