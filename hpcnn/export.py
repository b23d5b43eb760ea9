"""Writes a trained model in a format of others: ``python -m hpcnn.export RUN --format onnx``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_run_arguments, path_argument
from hpcnn.cli.parallel import open_run, run_parallel
from hpcnn.errors import HpcnnError

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.runs.inference import TrainedModel

FORMATS = ("onnx", "keras", "npz", "safetensors", "pt2")
"""Each is the ending of its files."""
_BACKENDS = {"keras": "keras", "safetensors": "torch", "pt2": "torch"}
"""What computes the model that a format is written from, if that is not NumPy."""


def _parser() -> Parser:
    parser = Parser(
        "hpcnn export",
        "Write a trained model as a file that others read: ONNX, Keras, PyTorch (pt2), its state_dict (safetensors), "
        "or a NumPy archive. ONNX, Keras and pt2 files take raw inputs and give what hpcnn predict gives.",
        example="python -m hpcnn.export runs/digits_mlp --format onnx -o digits.onnx",
    )
    add_run_arguments(parser)
    parser.add_argument("--format", choices=FORMATS, help="the format; that of the ending of FILE, or onnx")
    parser.add_argument(
        "-o", "--output", type=path_argument, metavar="FILE", help="file to write; default: beside the model's own file"
    )
    parser.add_argument(
        "--no-scaling",
        action="store_true",
        help="leave out the scaling of the inputs (data.scale): the file takes scaled inputs",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.system.output import write_line

        form = agree(comm, lambda: _format(arguments))
        trained = _open(comm, arguments, form)
        path = arguments.output or _beside(trained.path, form)
        agree(comm, lambda: _write(trained, form, path, arguments) if comm.rank == 0 else None)
        if comm.rank == 0:
            network = trained.spec.network
            shapes = f"{network.input_shape} -> {network.output_shape}"
            write_line(f"{trained.path}: {network.layout.size:,} parameters, samples {shapes}, in {path}")
            write_line(f"weights sha256 {trained.weights_sha256}")
        return 0

    return run_parallel(body)


def _format(arguments: argparse.Namespace) -> str:
    """Return the requested format after checking that it can be written."""
    output: Path | None = arguments.output
    ending = output.suffix.removeprefix(".") if output else ""
    form = arguments.format or (ending if ending in FORMATS or output else "onnx")
    if output is not None and (ending != form or form not in FORMATS):
        wanted = f".{form}" if arguments.format else ", ".join(f".{each}" for each in FORMATS)
        raise HpcnnError(f"the output {str(output)!r} must end in {wanted}")
    if output is not None and not output.parent.is_dir():
        raise HpcnnError(f"there is no folder {str(output.parent)!r} to write {output.name!r} to")
    if form == "onnx":
        from hpcnn.data.source import optional_import

        optional_import("onnx", "onnx", "writing ONNX files")
    if form in ("npz", "safetensors") and arguments.no_scaling:
        what = "which stores the scaling separately" if form == "npz" else "which holds no scaling"
        raise HpcnnError(f"--no-scaling has no effect with --format {form}, {what}. Leave it out.")
    return str(form)


def _beside(weights: Path, form: str) -> Path:
    """Return the file to write where none is named: beside that of the weights, and never that itself."""
    path = weights.with_suffix(f".{form}")
    return weights.with_name(f"state_dict.{form}") if path == weights else path


def _open(comm: Communicator, arguments: argparse.Namespace, form: str) -> TrainedModel:
    from hpcnn.tools.open_run import open_by_numpy

    if form in _BACKENDS:
        arguments.backend = _BACKENDS[form]
        return open_run(comm, arguments)
    return open_by_numpy(comm, arguments)


def _write(trained: TrainedModel, form: str, path: Path, arguments: argparse.Namespace) -> None:
    scaling = not arguments.no_scaling
    if form == "onnx" and trained.job.backend == "torch" and trained.job.model.entry:
        from hpcnn.tools.export.torch_file import write_onnx_of_module

        write_onnx_of_module(trained, path, scaling=scaling)
    elif form == "onnx":
        from hpcnn.tools.export.onnx_file import write_onnx

        write_onnx(trained, path, scaling=scaling)
    elif form == "npz":
        from hpcnn.tools.export.npz_file import write_npz

        write_npz(trained, path)
    elif form == "keras":
        from hpcnn.tools.export.keras_file import write_keras

        write_keras(trained, path, scaling=scaling)
    else:
        from hpcnn.tools.export.torch_file import write_program, write_state_dict

        if form == "pt2":
            write_program(trained, path, scaling=scaling)
        else:
            write_state_dict(trained, path)


if __name__ == "__main__":
    sys.exit(main())
