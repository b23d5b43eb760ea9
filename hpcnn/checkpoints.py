"""Lists and verifies the checkpoints of a run: ``python -m hpcnn.checkpoints RUN``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, path_argument
from hpcnn.cli.parallel import run_parallel
from hpcnn.errors import EXIT_DONE, EXIT_FAILURE

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.runs.checkpoints.index import CheckpointFile


def _parser() -> Parser:
    parser = Parser(
        "hpcnn checkpoints",
        "List the checkpoints of a run and verify each. The exit code is 0 if all are intact, 1 if any is damaged.",
        example="python -m hpcnn.checkpoints runs/digits_mlp",
    )
    parser.add_argument("run", type=path_argument, metavar="RUN", help="run folder")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.runs.checkpoints.index import verified_checkpoints

        files = agree(comm, lambda: verified_checkpoints(arguments.run) if comm.rank == 0 else [])
        if comm.rank == 0:
            _show(arguments.run, files, as_json=arguments.json)
        return int(comm.broadcast(EXIT_FAILURE if any(file.trouble for file in files) else EXIT_DONE))

    return run_parallel(body)


def _show(run: Path, files: Sequence[CheckpointFile], *, as_json: bool) -> None:
    from hpcnn.runs.checkpoints.table import print_table
    from hpcnn.system.output import write_line

    if as_json:
        write_line(json.dumps({"run": str(run), "checkpoints": [file.as_json(run) for file in files]}))
    else:
        print_table(run, files)


if __name__ == "__main__":
    sys.exit(main())
