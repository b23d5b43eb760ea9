"""The `hpcnn` command: one name for all commands."""

from __future__ import annotations

import sys

from hpcnn.system.search_path import leave_out_working_folder

leave_out_working_folder(of_module=False)

import argparse  # noqa: E402 - not from the working folder
import importlib  # noqa: E402
from collections.abc import Sequence  # noqa: E402

from hpcnn.cli.arguments import Parser  # noqa: E402
from hpcnn.errors import nearest  # noqa: E402

GROUPS = {
    "train and use a model": {
        "data": "shows the data of a job, and what looks wrong in them",
        "show": "shows a network, and the memory that it needs",
        "train": "trains a network",
        "evaluate": "computes loss and metrics of a trained model",
        "predict": "computes its outputs",
        "lr-find": "finds a learning rate for a job",
        "explain": "shows which inputs determine predictions",
        "export": "writes a trained model in a format of others",
    },
    "look at runs and machines": {
        "report": "reports the results of runs as a page, a picture or text",
        "checkpoints": "lists and verifies the checkpoints of a run",
        "predict-scaling": "predicts a step on many nodes, and how many pay",
        "bench": "measures the network, the exchange of gradients, and a step",
        "doctor": "diagnoses this machine, its MPI and the Slurm job",
    },
    "on a Slurm cluster": {
        "submit": "submits a training",
        "status": "shows the progress of runs",
        "logs": "prints the log of a run",
        "cancel": "cancels runs after they have saved",
        "sweep": "sweeps over settings of a job",
        "scaling-study": "measures how a job scales, and writes a page of it",
    },
    "Keras and Horovod": {
        "keras-check": "shows how to port a Horovod script",
        "horovod": "builds Horovod for this environment, and tests it",
    },
}
"""The commands, each with what it does."""
_MODULES = {"data": "check_data"}
"""Those whose modules have other names."""
COMMANDS = tuple(name for group in GROUPS.values() for name in group)


def _command(text: str) -> str:
    """Return the command that is meant, whether written with ``-`` or ``_``."""
    name = text.replace("_", "-")
    if name not in COMMANDS:
        raise argparse.ArgumentTypeError(f"there is no command {text!r}.{nearest(name, COMMANDS)}")
    return name


def _overview() -> str:
    lines = ["commands, each with its own --help:"]
    for title, commands in GROUPS.items():
        lines += ["", f"  {title}", *(f"    {name:<17}{what}" for name, what in commands.items())]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hpcnn COMMAND ...`` and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = Parser(
        "hpcnn",
        "Train neural networks data-parallel on MPI clusters, with the same bits on any number of ranks.",
        example="mpirun -n 4 hpcnn train jobs/digits_mlp.toml",
    )
    parser.add_argument("command", type=_command, metavar="COMMAND", help="what to do, from the list below")
    parser.epilog = f"{_overview()}\n\n{parser.epilog}"
    name = parser.parse_args(argv[:1] or ["--help"]).command
    command = importlib.import_module(f"hpcnn.{_MODULES.get(name, name.replace('-', '_'))}")
    return int(command.main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
