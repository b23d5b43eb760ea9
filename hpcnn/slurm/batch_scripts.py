"""Finds the batch script template of a submission, and checks its syntax."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from hpcnn.errors import JobError, unknown_name

TEMPLATES_VARIABLE = "HPCNN_SLURM_DIR"
"""Environment variable with the folder of the templates, through which they also find their shared code."""


def templates_folder() -> Path:
    """Return the folder of the templates: HPCNN_SLURM_DIR, ``slurm/`` here, or that of hpcnn."""
    package = Path(__file__).parents[1]
    named = os.environ.get(TEMPLATES_VARIABLE)
    places = [*([Path(named)] if named else []), Path("slurm"), package / "slurm" / "templates"]
    found = next((place for place in places if (place / "train.sbatch").is_file()), package.parent / "slurm")
    return found.absolute()


def find_template(name: str) -> Path:
    """Return the template of this name, or the one at this path. JobError: there is none."""
    if "/" in name or name.endswith((".sbatch", ".sh")):
        path = Path(name).absolute()
        if not path.is_file():
            raise JobError(f"--template {name}: no such file. Give a file, or the name of a template such as train.")
        return path
    folder = templates_folder()
    if name == "evaluate":
        raise JobError(
            f"--template evaluate: it takes a run, not a job. Submit it by: sbatch --dependency=afterok:JOBID "
            f"--kill-on-invalid-dep=yes {shlex.quote(str(folder / 'evaluate.sbatch'))} RUN"
        )
    path = folder / f"{name}.sbatch"
    if not path.is_file():
        unknown_name("template", name, [one.stem for one in folder.glob("*.sbatch")])
    return path


def read_template(template: Path) -> str:
    """Return the text of a template. JobError: it can't be read."""
    try:
        return template.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise JobError(f"the template {str(template)!r} can't be read: {error}") from None


def check_syntax(template: Path) -> None:
    """Raise JobError for a shell syntax error, which Slurm would find only when the job starts."""
    try:
        done = subprocess.run(["bash", "-n", template], capture_output=True, encoding="utf-8", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JobError(f"bash -n could not be run: {error}") from None
    if done.returncode:
        raise JobError(f"the template is not a valid shell script: {done.stderr.strip()}")
