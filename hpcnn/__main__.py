"""The `hpcnn` command: one name for all commands."""

from __future__ import annotations

import sys

from hpcnn.system.search_path import leave_out_working_folder

leave_out_working_folder(of_module=False)

from collections.abc import Sequence  # noqa: E402 - not from the working folder

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
        "Train neural networks data-parallel on MPI clusters: the same bits on any number of ranks.",
        example="mpirun -n 4 hpcnn train jobs/digits_mlp.toml",
    )
    what = f"one of {', '.join(COMMANDS)}; each has its own --help"
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=what)
    name = parser.parse_args(argv[:1] or ["--help"]).command
    match name:
        case "train":
            from hpcnn.train import main as command
        case "evaluate":
            from hpcnn.evaluate import main as command
        case "checkpoints":
            from hpcnn.checkpoints import main as command
        case "bench":
            from hpcnn.bench import main as command
        case "report":
            from hpcnn.report import main as command
        case "lr-find":
            from hpcnn.lr_find import main as command
        case "explain":
            from hpcnn.explain import main as command
        case "export":
            from hpcnn.export import main as command
        case "submit":
            from hpcnn.submit import main as command
        case "status":
            from hpcnn.status import main as command
        case "logs":
            from hpcnn.logs import main as command
        case "cancel":
            from hpcnn.cancel import main as command
        case "sweep":
            from hpcnn.sweep import main as command
        case "doctor":
            from hpcnn.doctor import main as command
        case "horovod":
            from hpcnn.horovod import main as command
        case "keras-check":
            from hpcnn.keras_check import main as command
        case _:
            from hpcnn.predict import main as command
    return command(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
