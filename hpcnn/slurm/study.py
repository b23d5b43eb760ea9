"""Submits a scaling study: one job of the largest size, which runs all sizes in turn on its first nodes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hpcnn.errors import CheckpointError, JobError
from hpcnn.job.load import LoadedJob
from hpcnn.slurm.batch_scripts import check_syntax, find_template, read_template
from hpcnn.slurm.client import run_slurm
from hpcnn.slurm.options import directives, parse_options
from hpcnn.slurm.queue import COMMENT, job_ids, queued
from hpcnn.slurm.run_files import holds_any
from hpcnn.slurm.submission import Submission, output_pattern
from hpcnn.tools.scaling.plan import Plan, StudyFiles

TEMPLATE = "scaling_study"
_OWN = ("nodes", "ntasks-per-node", "ntasks", "array")
"""Options that follow from the plan."""


def check_study_folder(files: StudyFiles, plan: Plan) -> None:
    """Check that the folder is free, or holds the same study, of which only runs that are missing are measured.

    Raises:
        JobError: it holds another study, or its path can't be passed to Slurm.
        CheckpointError: it holds something else, or can't be written.
    """
    if not str(files.path).isprintable():
        raise JobError(f"--out {str(files.path)!r}: line breaks and control characters can't be passed to Slurm")
    _check_writable(files.path)
    if not files.plan.exists():
        if holds_any(files.path) or (files.path.exists() and not files.path.is_dir()):
            raise CheckpointError(f"--out {str(files.path)!r} is no scaling study. Choose another folder.")
        return
    before, now = asdict(files.read_plan()), asdict(plan)
    changed = [key for key in now if before[key] != now[key]]
    if changed:
        raise JobError(
            f"the study in {str(files.path)!r} was begun with other values of {', '.join(changed)}, and its runs would "
            "not be comparable. Repeat the command that began it, or choose another --out."
        )


def _check_writable(folder: Path) -> None:
    """Check that the folder, or the one in which it is to be made, can be written, and leave nothing there."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        return  # what is wrong has a message of its own
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _not_writable(folder, error) from None


def write_plan(files: StudyFiles, plan: Plan) -> None:
    """Write the plan. CheckpointError: the folder can't be written."""
    try:
        files.write_plan(plan)
    except OSError as error:
        raise _not_writable(files.path, error) from None


def _not_writable(folder: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"can't write to {str(folder)!r} ({error.strerror}). Choose another one with --out.")


def prepare_study(loaded: LoadedJob, plan: Plan, folder: Path, options: Sequence[str]) -> Submission:
    """Return the submission of a study. HpcnnError: its template or the options are invalid."""
    given = parse_options(options)
    for name in _OWN:
        if name in given:
            raise JobError(f"--{name} of sbatch follows from the study's --nodes and --tasks-per-node: leave it out")
    template = find_template(TEMPLATE)
    size = [f"--nodes={plan.nodes[-1]}", f"--ntasks-per-node={plan.tasks_per_node}"]
    own = [
        f"--job-name=scaling-{loaded.job.name}",
        f"--comment={COMMENT}{folder}",
        f"--output={output_pattern(folder / 'logs', array=False)}",
        "--open-mode=append",
    ]
    asked = directives(read_template(template)) | parse_options([*size, *options])
    check_syntax(template)
    return Submission(loaded, plan.overrides, template, folder, [*own, *size, *options], [str(folder)], asked)


def job_in_queue(folder: Path) -> str:
    """Return the ids of the jobs in the queue that measure the study in `folder`; empty if there are none."""
    return job_ids([job for job in queued() if job.folder == str(folder)])


def submit_study(submission: Submission, plan: Plan) -> str:
    """Write the plan, submit, and return the job id.

    Raises:
        CheckpointError: the folder can't be written.
        SlurmError: Slurm refuses.
    """
    write_plan(StudyFiles(submission.folder), plan)
    said = run_slurm(*submission.command, environ=submission.environ)
    return said.strip().splitlines()[-1].partition(";")[0]
