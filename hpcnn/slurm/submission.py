"""Prepares, checks and submits a job."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.errors import CheckpointError, HpcnnError, JobError
from hpcnn.slurm.batch_scripts import TEMPLATES_VARIABLE, check_syntax, find_template, read_template, templates_folder
from hpcnn.slurm.client import run_slurm
from hpcnn.slurm.options import Size, directives, parse_options, size_of
from hpcnn.slurm.queue import COMMENT, job_ids, queued
from hpcnn.slurm.resume import check_same_points, check_same_run, shards_in
from hpcnn.slurm.run_files import RunFiles, append_line, free_folder, holds_any
from hpcnn.slurm.sweep import Point, overrides, points_toml, read_points
from hpcnn.system.atomic import write_text

if TYPE_CHECKING:
    from hpcnn.job.load import LoadedJob
    from hpcnn.job.schema import Job


@dataclass(frozen=True)
class SubmissionRequest:
    """What the user asks `hpcnn submit` for."""

    job: Path | None
    overrides: Sequence[str] = ()
    options: Sequence[str] = ()
    """Options of sbatch: ``--nodes=2``, ..."""
    name: str = ""
    out: Path | None = None
    resume: bool = False
    template: str = "train"
    after: Sequence[str] = ()
    sweep: Path | None = None


@dataclass(frozen=True)
class Submission:
    """A prepared submission."""

    loaded: LoadedJob
    overrides: Sequence[str]
    template: Path
    folder: Path
    """The run folder, absolute."""
    options: Sequence[str]
    """Options of sbatch."""
    arguments: Sequence[str]
    """Arguments of the template."""
    asked: Mapping[str, str]
    """All effective options, including those in the template."""
    points: Sequence[Point] = ()
    """Points of a sweep."""
    new: bool = True
    """Whether the folder does not exist yet."""

    @property
    def command(self) -> list[str]:
        """The whole command."""
        return ["sbatch", "--parsable", *self.options, str(self.template), *self.arguments]

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the command and of the job, whose ``python`` is the current one."""
        path, here = os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)
        first = shutil.which("python")
        if first is None or Path(first).parent != Path(here):  # called by its path, without an active environment
            path = here + os.pathsep + path
        beside = self.template.parent
        shared = beside if (beside / "lib.sh").is_file() else templates_folder()  # a user's template may lack lib.sh
        return {**os.environ, "PATH": path, TEMPLATES_VARIABLE: str(shared)}

    @property
    def size(self) -> Size:
        """The resources that it requests."""
        return size_of(self.asked)


def prepare(request: SubmissionRequest) -> Submission:
    """Return the submission for a request after all checks that don't need Slurm. HpcnnError: it is invalid."""
    from hpcnn.job.load import load_job

    loaded = load_job(request.job, request.overrides)
    points = read_points(request.sweep) if request.sweep else []
    if request.template == "scaling_study":
        raise JobError(
            "--template scaling_study: it takes a study, not a job. Submit one by: "
            "hpcnn scaling-study JOB --nodes 1,2,4 --out DIR"
        )
    template = find_template(request.template)
    folder = _choose_folder(request, loaded.job.name)
    asked = directives(read_template(template)) | parse_options(request.options)
    options = [*_own_options(request, folder, loaded.job.name), *request.options]
    arguments = _arguments(request, folder, loaded.path)
    new = not folder.exists()
    submission = Submission(loaded, request.overrides, template, folder, options, arguments, asked, points, new=new)
    _check_time(asked)
    check_ranks(submission.size, loaded.job, folder)
    if request.resume and not points:
        check_same_run(folder, loaded)
    check_same_points(folder, points)
    for index, point in enumerate(points):
        _check_point(request, submission.size, folder, index, point)
    check_syntax(template)
    return submission


def _own_options(request: SubmissionRequest, folder: Path, job_name: str) -> list[str]:
    after = [f"--dependency=afterok:{':'.join(request.after)}", "--kill-on-invalid-dep=yes"] if request.after else []
    return [
        f"--job-name={request.name or job_name}",
        f"--comment={COMMENT}{folder}",
        f"--output={output_pattern(folder / 'logs', array=request.sweep is not None)}",
        "--open-mode=append",
        *after,
    ]


def output_pattern(logs: Path, *, array: bool) -> str:
    r"""Return the path of the job's output as a filename pattern of sbatch.

    >>> output_pattern(Path("/50%/logs"), array=False), output_pattern(Path("/a\\b"), array=False)
    ('/50%%/logs/slurm-%j.out', '/a\\\\b/slurm.out')
    """
    if "\\" in str(logs):  # which disables all replacements
        return str(logs).replace("\\", "\\\\") + "/slurm.out"
    return f"{str(logs).replace('%', '%%')}/slurm-{'%A_%a' if array else '%j'}.out"


def _arguments(request: SubmissionRequest, folder: Path, job: Path) -> list[str]:
    sweep = [str(RunFiles(folder).sweep)] if request.sweep else []
    sets = [word for override in request.overrides for word in ("--set", override)]
    return [*sweep, str(job.absolute()), "--out", str(folder), *sets]


def _check_point(request: SubmissionRequest, size: Size, folder: Path, index: int, point: Point) -> None:
    from hpcnn.job.load import load_job

    try:
        loaded = load_job(request.job, [*request.overrides, *overrides(point)])
        check_ranks(size, loaded.job, folder / str(index))
        if request.resume:
            check_same_run(folder / str(index), loaded)
    except HpcnnError as error:
        raise type(error)(f"point {index} of the sweep: {error}") from None


def _choose_folder(request: SubmissionRequest, name: str) -> Path:
    if request.out is None:
        if request.resume:
            raise JobError("--resume needs the folder of the run: --out runs/digits_mlp, for example")
        return free_folder(name)
    folder = request.out.absolute()
    if not str(folder).isprintable():
        raise JobError(f"--out {str(folder)!r}: line breaks and control characters can't be passed to Slurm")
    if holds_any(folder) and not request.resume:
        raise CheckpointError(
            f"the folder {str(folder)!r} already contains a run. Resume it with --resume, or choose another --out."
        )
    if request.resume and not holds_any(folder):
        raise CheckpointError(f"--resume: there is no run in {str(folder)!r}. Omit --resume to start one there.")
    return folder


def _check_time(asked: Mapping[str, str]) -> None:
    if not asked.get("time") and not os.environ.get("SBATCH_TIMELIMIT"):
        raise JobError(
            "no wall time is given. Set it, for example --time 1:00:00. A training that takes longer saves before the "
            "limit, is requeued and resumes."
        )


def check_ranks(size: Size, job: Job, folder: Path) -> None:
    """Raise JobError if the job may get more ranks than it has gradient shards."""
    shards = shards_in(folder, job)
    if shards is not None and size.ranks > shards:
        raise JobError(
            f"the job may get {size}, but has {shards} gradient shards (train.shards): more ranks than those would "
            "have nothing to do. Ask for fewer --nodes or --tasks-per-node, or begin a new run, with another result, "
            f"by --set train.shards={size.ranks}"
        )


def test_only(submission: Submission) -> str:
    """Return Slurm's estimate of when and where the job would start. SlurmError: Slurm would not accept it."""
    said = run_slurm("sbatch", "--test-only", *submission.command[1:], environ=submission.environ)
    return re.sub(r"^sbatch: Job \d+ ", "", said.strip().splitlines()[-1]) if said.strip() else ""


def check_free(submission: Submission, after: Sequence[str]) -> None:
    """Raise CheckpointError if a job that is not in `after` writes to the run folder."""
    others = [job for job in queued() if job.folder == str(submission.folder) and job.number not in after]
    if others:
        raise CheckpointError(
            f"job {job_ids(others)} in the queue already writes to {str(submission.folder)!r}. Wait for it, submit "
            f"this one with --after {others[0].number}, or stop it: hpcnn cancel {others[0].number}"
        )


def submit(submission: Submission) -> str:
    """Make the run folder, submit, and return the job id.

    Raises:
        SlurmError: Slurm refuses. New files and folders are removed.
    """
    run = RunFiles(submission.folder)
    made: list[Path] = []
    try:
        _make_folder(run, submission, made)
        said = run_slurm(*submission.command, environ=submission.environ)
    except BaseException:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
        raise
    number = said.strip().splitlines()[-1].partition(";")[0]  # with several clusters, the name of the cluster follows
    job = {"job": str(submission.loaded.path.absolute()), "set": list(submission.overrides)}
    append_line(run.submissions, {"job_id": number, **job, "command": submission.command})
    return number


def _make_folder(run: RunFiles, submission: Submission, made: list[Path]) -> None:
    """Make the files and folders that the job needs, and append new ones to `made`."""
    try:
        for folder in (run.path, run.logs):
            folder.parent.mkdir(parents=True, exist_ok=True)
            if submission.new or not folder.exists():
                folder.mkdir()
                made.append(folder)
        if submission.points:
            if not run.sweep.exists():
                made.append(run.sweep)
            write_text(run.sweep, points_toml(submission.points))
        for one in (run, *run.elements().values()):
            one.cancelled.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"can't make the run folder {str(run.path)!r} ({error.strerror}). Choose another one with --out."
        ) from None
