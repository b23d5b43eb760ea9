"""Measure the example of docs/scaling-study.md on the test cluster of four simulated nodes. Needs root and Slurm.

``python -m scripts.scaling_example --without ddp --without horovod`` passes its arguments on to `hpcnn scaling-study`.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.slurm.cluster import ENDED, Cluster
from tests.slurm.commands import Commands

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "scaling-study.md"
BEGIN = "<!-- the page of the example -->\n\n"
SETTINGS = ("--set", "train.batch_size=128", "--set", "train.shards=16", "--nodes", "1,2,4", "--out", "runs/scaling")
LIMIT_S, POLL_S = 1800, 2.0


def main() -> int:
    """Run the study, put its page into that of the documentation, and return the exit code."""
    with tempfile.TemporaryDirectory() as folder, Cluster() as cluster:
        commands = Commands(cluster, Path(folder))
        job = ROOT / "jobs" / "digits_mlp.toml"
        said = commands.output("scaling-study", job, *SETTINGS, "--time", str(LIMIT_S // 60), *sys.argv[1:])
        number = said.split("submitted   job ")[1].split(";")[0]
        while cluster.state(number) not in ENDED:
            time.sleep(POLL_S)
        put(Path(folder, "runs", "scaling"))
    return 0


def put(study: Path) -> None:
    """Put the page of a study, its headings two levels lower, and its plots into the documentation."""
    text = (study / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^#+ ", r"##\g<0>", text, flags=re.MULTILINE).replace("[raw](raw/)", "`raw/`")
    for kind in ("strong", "weak"):
        text = text.replace(f"({kind}.svg)", f"(images/scaling-{kind}.svg)")
        shutil.copyfile(study / f"{kind}.svg", PAGE.parent / "images" / f"scaling-{kind}.svg")
    before = PAGE.read_text(encoding="utf-8").partition(BEGIN)[0]
    PAGE.write_text(before + BEGIN + text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
