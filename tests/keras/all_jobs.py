"""Trains every job of jobs/ in Keras mode, one after the other, since TensorFlow takes seconds to import.

    mpirun -n 2 python -m tests.keras.all_jobs OUT [SETTING ...]

The folder OUT must hold mnist/, and gets a run a job, and without a SETTING one that learns the digits.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpcnn.cli.parallel import run_parallel
from tests.quick_jobs import changes_of

JOBS = [path for path in sorted((Path(__file__).parents[2] / "jobs").glob("*.toml")) if path.stem != "digits_torch"]
"""All but one whose model is of another library."""
SHORTENED = {"sigmoid_net": 50, "binary_nesterov": 10, "digits_mlp": 5, "mnist_mlp": 2, "mnist_functional": 2}
"""Epochs, where all of them would take long."""
DIGITS, DIGITS_EPOCHS = "digits", 16
"""The run of the digits that learns them, beside the short one."""


def settings(job: Path, out: Path) -> list[str]:
    """Return what is changed in a job."""
    found = ["backend=keras", "run.display=quiet", *changes_of(job.stem, out, keras=True)]
    if job.stem in SHORTENED:
        found.append(f"train.epochs={SHORTENED[job.stem]}")
    if job.stem.startswith("mnist"):
        found.append(f"data.folder={out / 'mnist'}")
    return found


def main(out: Path, *more: str) -> int:
    def body(comm):
        from hpcnn.backends.keras.backend import KerasBackend
        from hpcnn.comm.collectives import agree
        from hpcnn.job.load import load_job
        from hpcnn.runs.session import train

        backend = KerasBackend.start(comm.local_rank)
        runs = [(job.stem, job, settings(job, out)) for job in JOBS]
        digits = next(job for job in JOBS if job.stem == "digits_mlp")
        if not more:
            runs.append((DIGITS, digits, [*settings(digits, out), f"train.epochs={DIGITS_EPOCHS}"]))
        for name, job, changes in runs:
            loaded = agree(comm, lambda job=job, changes=changes: load_job(job, [*changes, *more]))
            train(loaded, comm, out=out / name, resume="never", backend=backend)
        return 0

    return run_parallel(body)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
