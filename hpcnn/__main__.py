"""The `hpcnn` command: one name for all commands."""

from __future__ import annotations

import sys

from hpcnn.system.search_path import leave_out_working_folder

leave_out_working_folder(of_module=False)

import importlib  # noqa: E402 - not from the working folder
from collections.abc import Sequence  # noqa: E402

from hpcnn.cli.arguments import Parser  # noqa: E402

COMMANDS = (
    *("train", "evaluate", "predict", "checkpoints", "bench", "report"),
    *("lr-find", "explain", "export"),
    *("submit", "status", "logs", "cancel", "sweep", "horovod", "keras-check", "doctor"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hpcnn COMMAND ...`` and return its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = Parser(
        "hpcnn",
        "Train neural networks data-parallel on MPI clusters, with the same bits on any number of ranks.",
        example="mpirun -n 4 hpcnn train jobs/digits_mlp.toml",
    )
    what = f"one of {', '.join(COMMANDS)}; each has its own --help"
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=what)
    name = parser.parse_args(argv[:1] or ["--help"]).command
    command = importlib.import_module(f"hpcnn.{name.replace('-', '_')}")
    return int(command.main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
