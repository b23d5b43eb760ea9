"""Computes the outputs of a trained model: ``mpirun -n 4 python -m hpcnn.predict RUN INPUT -o OUT.npy``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_run_arguments, path_argument
from hpcnn.cli.parallel import open_run, run_parallel, warn_of_order

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before


def _parser() -> Parser:
    parser = Parser(
        "hpcnn predict",
        "Compute the outputs of a trained model for the inputs in a file, in input order: as an array, or as a table "
        "with classes in words and their probabilities, and the file of each picture. The bits are the same on any "
        "number of ranks.",
        example="mpirun -n 4 python -m hpcnn.predict runs/digits_mlp digits.npy -o out.npy",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="inputs: .npy, .npz, .csv, .h5, .parquet, .feather, an IDX file, or a file with any ending in the format "
        "of the job's own data, of tables also a folder, a pattern or an address; named columns may be in any order, "
        "and targets may be present",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=path_argument,
        required=True,
        metavar="OUT",
        help="file to write, .npy or .csv; of several outputs, each has its name before the ending, as OUT.digit.npy",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.runs.inference import input_loader
        from hpcnn.runs.predictions import check_output, write_predictions
        from hpcnn.system.output import write_line

        agree(comm, lambda: check_output(arguments.output, writes=comm.rank == 0))
        trained = open_run(comm, arguments)
        loader = agree(comm, lambda: input_loader(trained, comm, arguments.input))
        warn_of_order(comm, trained, arguments.input)
        for path, shape in write_predictions(trained, comm, loader, arguments.output).items():
            if comm.rank == 0:
                write_line(f"{loader.samples:,} predictions of shape {shape[1:]} in {path}")
        return 0

    return run_parallel(body)


if __name__ == "__main__":
    sys.exit(main())
