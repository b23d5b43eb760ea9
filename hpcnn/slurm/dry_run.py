"""What a command that submits says with --dry-run."""

from __future__ import annotations

from hpcnn.slurm.client import NoSlurmError
from hpcnn.slurm.submission import Submission, test_only
from hpcnn.system.output import write_line


def dry_run(submission: Submission) -> None:
    """Ask Slurm whether it would take the job, and say so.

    Raises:
        SlurmError: it would not.
    """
    try:
        write_line(f"Slurm       would take it {test_only(submission)}".rstrip())
    except NoSlurmError as error:
        write_line(f"Slurm       was not asked: {error}")
    write_line("dry run     nothing was submitted")
