"""Submits a training to a Slurm cluster: ``hpcnn submit JOB --nodes 2 --time 1:00:00``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument
from hpcnn.cli.serial import run_serial
from hpcnn.errors import EXIT_DONE, JobError
from hpcnn.system.output import write_line

if TYPE_CHECKING:
    from hpcnn.slurm.submission import Submission, SubmissionRequest

_PASSED_ON = ("nodes", "tasks_per_node", "cpus_per_task", "time", "partition", "account", "gres", "array")
_OF_SBATCH = {"tasks_per_node": "ntasks-per-node"}
"""Options with another name in sbatch."""


def _parser() -> Parser:
    parser = Parser(
        "hpcnn submit",
        "Submit the training of a job file to Slurm with a template from slurm/, after checking the job file, ranks "
        "against gradient shards, the time, the template's syntax, and whether Slurm would accept it (sbatch "
        "--test-only). Prints the Slurm job id and the run folder. Options that are left out are those of the "
        "template.",
        example="hpcnn submit jobs/digits_mlp.toml --nodes 2 --tasks-per-node 4 --time 60",
    )
    add_job_arguments(parser)
    size = parser.add_argument_group("resources")
    size.add_argument("--nodes", metavar="N|MIN-MAX", help="nodes; a range such as 2-4 lets Slurm choose at each start")
    size.add_argument("--tasks-per-node", metavar="N", help="ranks per node")
    size.add_argument("--cpus-per-task", metavar="N", help="cores per rank")
    size.add_argument("--gres", help="other resources per node, for example gpu:2")
    size.add_argument(
        "--time",
        help="wall time, for example 1:00:00; a longer training saves before the limit, is requeued and resumes",
    )
    where = parser.add_argument_group("queue")
    where.add_argument("--partition", metavar="NAME", help="partition; `sinfo -s` lists them")
    where.add_argument("--account", metavar="NAME", help="account to charge")
    where.add_argument(
        "--after",
        metavar="JOBID",
        action="append",
        default=[],
        help="start after this job has succeeded; may be repeated",
    )
    where.add_argument(
        "--requeue",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="requeue the job after its time limit, preemption or the loss of a node",
    )
    _add_run_arguments(parser)
    return parser


def _add_run_arguments(parser: Parser) -> None:
    run = parser.add_argument_group("the run")
    run.add_argument("--name", default="", help="name of the Slurm job; default: the name of the job file")
    run.add_argument(
        "--out",
        type=path_argument,
        metavar="DIR",
        help="run folder; default: runs/<name of the job>, numbered if it exists",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="resume the run in --out: one that was stopped, or that is to train for more epochs. JOB, --set and "
        "--sweep default to those of the last submission. Without it, a folder that contains a run is refused. "
        "(A job that Slurm requeues resumes by itself.)",
    )
    run.add_argument(
        "--template",
        default="",
        metavar="NAME|PATH",
        help="train (default), single, keras, apptainer or your own; templates in slurm/ here, or in HPCNN_SLURM_DIR, "
        "take precedence over those that come with hpcnn",
    )
    run.add_argument(
        "--sweep", type=path_argument, metavar="FILE", help="one run per point of a sweep: see hpcnn sweep"
    )
    run.add_argument("--at-once", type=int, metavar="N", help="runs of a sweep at a time; all that fit if left out")
    run.add_argument("--array", metavar="SPEC", help="points of a sweep to run, as 0-5 or 3,7%%2; all if left out")
    do = parser.add_argument_group("action")
    do.add_argument("--dry-run", action="store_true", help="show and check everything, but submit nothing")
    do.add_argument("--wait", action="store_true", help="wait until the run ends; the exit code is 0 if it is done")
    parser.usage = "%(prog)s [JOB] [--set KEY=VALUE] [options] [-- OPTIONS OF SBATCH]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    arguments = _parser().parse_args(argv[:cut])
    return run_serial(lambda: _submit(arguments, argv[cut + 1 :]))


def _submit(arguments: argparse.Namespace, more: Sequence[str]) -> int:
    from hpcnn.slurm.dry_run import dry_run
    from hpcnn.slurm.submission import check_free, prepare, submit
    from hpcnn.slurm.submission import test_only as ask_slurm

    if arguments.resume and arguments.out is not None and arguments.job is None:
        _take_over(arguments)
    submission = prepare(_request(arguments, more))
    _show(submission)
    if arguments.dry_run:
        dry_run(submission)
        return EXIT_DONE
    check_free(submission, arguments.after)
    ask_slurm(submission)
    number = submit(submission)
    write_line(f"submitted   job {number}; follow it: hpcnn status {number}; stop it: hpcnn cancel {number}")
    if arguments.wait:
        from hpcnn.slurm.polling import wait_for

        return wait_for(number, submission.folder)
    return EXIT_DONE


def _take_over(arguments: argparse.Namespace) -> None:
    from hpcnn.slurm.resume import submitted_before
    from hpcnn.slurm.run_files import RunFiles, require_run

    run: RunFiles = require_run(arguments.out)
    arguments.job, overrides = submitted_before(run.path)
    arguments.overrides = [*overrides, *arguments.overrides]
    if run.sweep.exists() and arguments.sweep is None:
        arguments.sweep = run.sweep


def _request(arguments: argparse.Namespace, more: Sequence[str]) -> SubmissionRequest:
    from hpcnn.slurm.submission import SubmissionRequest

    options = {name: getattr(arguments, name) for name in _PASSED_ON}
    if arguments.sweep is None and (arguments.at_once or (arguments.array and "/" not in arguments.template)):
        raise JobError("--array and --at-once need a sweep: one job file is one run. Give --sweep FILE.")
    if arguments.sweep is not None and not arguments.array:
        from hpcnn.slurm.sweep import read_points

        options["array"] = f"0-{len(read_points(arguments.sweep)) - 1}"
    if arguments.at_once is not None:
        if arguments.at_once < 1 or "%" in options["array"]:
            raise JobError(f"--at-once {arguments.at_once}: expected 1 or more, and no % in --array")
        options["array"] += f"%{arguments.at_once}"
    passed = [f"--{_OF_SBATCH.get(name, name.replace('_', '-'))}={value}" for name, value in options.items() if value]
    if arguments.requeue is not None:
        passed.append("--requeue" if arguments.requeue else "--no-requeue")
    return SubmissionRequest(
        job=arguments.job,
        overrides=arguments.overrides,
        options=[*passed, *more],
        name=arguments.name,
        out=arguments.out,
        resume=arguments.resume,
        template=arguments.template or ("sweep" if arguments.sweep else "train"),
        after=arguments.after,
        sweep=arguments.sweep,
    )


def _show(submission: Submission) -> None:
    from hpcnn.slurm.resume import shards_in

    size, job = submission.size, submission.loaded.job
    shards = shards_in(submission.folder, job)
    each = f"{len(submission.points)} runs, each " if submission.points else ""
    time = submission.asked.get("time") or "of SBATCH_TIMELIMIT"
    write_line(f"job         {submission.loaded.path} ({job.name}), {shards or 'automatic'} gradient shards")
    write_line(f"size        {each}{size}, time {time}")
    write_line(f"run folder  {submission.folder}")
    write_line(f"command     {shlex.join(submission.command)}")


if __name__ == "__main__":
    sys.exit(main())
