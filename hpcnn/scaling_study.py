"""Measures how a job scales on a Slurm cluster: ``hpcnn scaling-study JOB --nodes 1,2,4 --out DIR``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_job_arguments, path_argument, whole_number
from hpcnn.cli.serial import run_serial
from hpcnn.core.formatting import counted
from hpcnn.errors import EXIT_DONE
from hpcnn.system.output import write_line
from hpcnn.tools.scaling.names import RIVALS, STRONG, WEAK

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.job.load import LoadedJob
    from hpcnn.slurm.submission import Submission
    from hpcnn.tools.scaling.plan import Plan, StudyFiles

_PASSED_ON = ("cpus_per_task", "time", "partition", "account")


def _parser() -> Parser:
    parser = Parser(
        "hpcnn scaling-study",
        "Measure strong and weak scaling of a job on a Slurm cluster, with the hash of the weights of each run. "
        "MPI_Allreduce in place of hpcnn's exchange and, where they are installed, PyTorch DDP and Horovod are "
        "measured beside it. One Slurm job of the largest size runs all sizes, each as soon as the one before "
        "has ended and been written; the same command submits what is missing. The result is one Markdown page with "
        "plots, README.md in the folder.",
        example="hpcnn scaling-study jobs/digits_mlp.toml --nodes 1,2,4 --out runs/scaling",
    )
    add_job_arguments(parser)
    what = parser.add_argument_group("the study")
    what.add_argument("--nodes", metavar="N,N,...", help="numbers of nodes to measure, for example 1,2,4,8,16")
    what.add_argument(
        "--tasks-per-node", type=whole_number(1), default=1, metavar="N", help="ranks per node; default: 1"
    )
    what.add_argument(
        "--steps", type=whole_number(1), default=50, metavar="N", help="training steps per measurement; default: 50"
    )
    kinds = what.add_mutually_exclusive_group()
    for kind, meaning in (
        ("strong", "only strong scaling: the job as it is, on more nodes"),
        ("weak", "only weak scaling: batch and gradient shards grow with the nodes"),
        ("both", "strong and weak scaling (default)"),
    ):
        kinds.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, default="both", help=meaning)
    what.add_argument("--without", action="append", choices=RIVALS, default=[], help="leave one out; may be repeated")
    what.add_argument("--out", type=path_argument, metavar="DIR", help="folder of the study")
    size = parser.add_argument_group("the Slurm job; options of sbatch may follow --")
    size.add_argument("--cpus-per-task", metavar="N", help="cores per rank")
    size.add_argument("--time", help="wall time of the whole study; submit it again if that was too short")
    size.add_argument("--partition", metavar="NAME", help="partition; `sinfo -s` lists them")
    size.add_argument("--account", metavar="NAME", help="account to charge")
    instead = size.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="show and check everything, but submit nothing")
    instead.add_argument("--plan", action="store_true", help="write the plan, but submit nothing; for --measure")
    other = parser.add_argument_group("of a study that was begun").add_mutually_exclusive_group()
    other.add_argument("--page", type=path_argument, metavar="DIR", help="write the page from the runs there are")
    other.add_argument(
        "--missing", type=path_argument, metavar="DIR", help="for scripts: list missing runs, nodes, ranks a node"
    )
    other.add_argument("--measure", nargs=2, metavar=("DIR", "RUN"), help="for scripts: measure one run on these ranks")
    parser.usage = "%(prog)s [JOB] --nodes N,N --out DIR [options] [-- OPTIONS]"
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _parser()
    arguments = parser.parse_args(argv[:cut])
    if arguments.measure:
        return _measure(Path(arguments.measure[0]), arguments.measure[1])
    if arguments.missing:
        return run_serial(lambda: _list_missing(arguments.missing))
    if arguments.page:
        return run_serial(lambda: _write_page(arguments.page))
    for option in ("nodes", "out"):
        if getattr(arguments, option) is None:
            parser.error(f"--{option} is missing")
    return run_serial(lambda: _study(arguments, argv[cut + 1 :]))


def _list_missing(folder: Path) -> int:
    from hpcnn.tools.scaling.plan import StudyFiles

    files = StudyFiles(folder)
    plan = files.read_plan()
    for run in files.missing(plan):
        write_line(f"{run.name} {run.nodes} {plan.tasks_per_node}")
    return EXIT_DONE


def _write_page(folder: Path) -> int:
    from hpcnn.tools.scaling.page import write_page
    from hpcnn.tools.scaling.plan import StudyFiles

    write_line(write_page(StudyFiles(folder)))
    return EXIT_DONE


def _measure(folder: Path, name: str) -> int:
    from hpcnn.cli.parallel import run_parallel

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.tools.bench.outputs import write_json
        from hpcnn.tools.scaling.figures import summary
        from hpcnn.tools.scaling.measure import measure_run
        from hpcnn.tools.scaling.plan import StudyFiles

        files = StudyFiles(folder)
        plan = agree(comm, files.read_plan)
        run = agree(comm, lambda: plan.run(name))
        figures = measure_run(plan, run, comm)
        agree(comm, lambda: write_json(files.figures(run), figures) if comm.rank == 0 else None)
        if comm.rank == 0:
            write_line(summary(figures))
        return EXIT_DONE

    return run_parallel(body)


def _study(arguments: argparse.Namespace, more: Sequence[str]) -> int:
    from hpcnn.job.load import load_job
    from hpcnn.slurm.dry_run import dry_run
    from hpcnn.slurm.study import check_study_folder, prepare_study, write_plan
    from hpcnn.tools.scaling.plan import StudyFiles, make_plan

    loaded = load_job(arguments.job, arguments.overrides)
    plan = make_plan(
        loaded,
        arguments.overrides,
        nodes=arguments.nodes,
        tasks_per_node=arguments.tasks_per_node,
        kinds=[STRONG, WEAK] if arguments.kind == "both" else [arguments.kind],
        steps=arguments.steps,
        rivals=[name for name in RIVALS if name not in arguments.without],
    )
    files = StudyFiles(arguments.out.absolute())
    check_study_folder(files, plan)
    options = {name: getattr(arguments, name) for name in _PASSED_ON}
    passed = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value]
    submission = prepare_study(loaded, plan, files.path, [*passed, *more])
    _show(loaded, plan, files, submission)
    missing = files.missing(plan)
    if len(missing) < len(plan.runs()) and not arguments.dry_run:
        _write_page(files.path)
    if not missing:
        return EXIT_DONE
    if arguments.dry_run:
        dry_run(submission)
        return EXIT_DONE
    if arguments.plan:
        write_plan(files, plan)
        write_line(f"plan        {files.plan}; --missing lists its runs, and --measure measures one")
        return EXIT_DONE
    return _submit(submission, plan)


def _show(loaded: LoadedJob, plan: Plan, files: StudyFiles, submission: Submission) -> None:
    missing = files.missing(plan)
    write_line(f"job         {loaded.path} ({loaded.job.name}), {counted(plan.shards, 'gradient shard')}")
    for run in plan.runs():
        train = plan.load(run).job.train
        state = "" if run in missing else ", done"
        batch = f"batch {train.batch_size}" if run.kind == WEAK else f"batch {plan.batch_size or 'full'}"
        write_line(f"run         {run.name}: {counted(plan.ranks(run), 'rank')}, {batch}{state}")
    write_line(f"size        {submission.size}, time {submission.asked.get('time') or 'of SBATCH_TIMELIMIT'}")
    write_line(f"folder      {files.path}")
    write_line(f"command     {shlex.join(submission.command)}")


def _submit(submission: Submission, plan: Plan) -> int:
    from hpcnn.slurm.study import job_in_queue, submit_study
    from hpcnn.slurm.submission import test_only as ask_slurm

    if number := job_in_queue(submission.folder):
        write_line(f"submitted   before: job {number} measures what is missing")
        return EXIT_DONE
    ask_slurm(submission)
    number = submit_study(submission, plan)
    write_line(f"submitted   job {number}; its page will be {submission.folder}/README.md; stop it: scancel {number}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
