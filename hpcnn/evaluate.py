"""Computes loss and metrics of a trained model: ``mpirun -n 4 python -m hpcnn.evaluate RUN [--data FILE]``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_run_arguments
from hpcnn.cli.parallel import open_run, run_parallel, warn_of_order
from hpcnn.core.formatting import counted

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.runs.inference import TrainedModel


def _parser() -> Parser:
    parser = Parser(
        "hpcnn evaluate",
        "Compute loss and metrics of a trained model. Each sample counts once; the result is the same on any number "
        "of ranks.",
        example="mpirun -n 4 python -m hpcnn.evaluate runs/digits_mlp",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="data instead of the job's validation data: .npz, .csv, .h5, .parquet, .feather, 'x.npy,y.npy', a folder "
        "of IDX files, or a file with any ending in the format of the job's own data, of tables also a folder, a "
        "pattern or an address; named columns may be in any order",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.runs.inference import evaluate_trained

        trained = open_run(comm, arguments)
        what, samples, values = agree(comm, lambda: evaluate_trained(trained, comm, arguments.data))
        warn_of_order(comm, trained, arguments.data)
        if comm.rank == 0:
            _show(trained, what, samples, values, as_json=arguments.json)
        return 0

    return run_parallel(body)


def _show(trained: TrainedModel, what: str, samples: int, values: Mapping[str, object], *, as_json: bool) -> None:
    from hpcnn.runs.answers import words_of_matrices
    from hpcnn.runs.display.console import print_results
    from hpcnn.system.output import write_line
    from hpcnn.training.metrics import plain_values

    if as_json:
        write_line(
            json.dumps({"checkpoint": str(trained.path), "data": what, "samples": samples, **plain_values(values)})
        )
    else:
        print_results(
            f"{trained.path} on {counted(samples, 'sample')}: {what}", values, words_of_matrices(trained, values)
        )


if __name__ == "__main__":
    sys.exit(main())
