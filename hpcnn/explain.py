"""Shows which inputs determine the predictions of a trained model: ``python -m hpcnn.explain RUN INPUT -o DIR``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcnn.cli.arguments import Parser, add_run_arguments, path_argument, whole_number
from hpcnn.cli.parallel import run_parallel
from hpcnn.core.formatting import counted

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator  # imports NumPy, which BLAS threads must be set before
    from hpcnn.runs.inference import TrainedModel

SALIENCY, INTEGRATED, PERMUTATION = "saliency", "integrated-gradients", "permutation"
FIRST_ROWS = slice(0, 8)
STEPS = 64
REPEATS = 5


def _parser() -> Parser:
    parser = Parser(
        "hpcnn explain",
        "Show which inputs determine the predictions of a trained model: for single samples by gradients, or over many "
        "samples by shuffling one input at a time. The result is the same on any number of ranks.",
        example="python -m hpcnn.explain runs/digits_mlp -o explained",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "input",
        nargs="?",
        metavar="INPUT",
        help="inputs as for hpcnn predict; for permutation, samples as for hpcnn evaluate --data; default: the job's "
        "validation data",
    )
    parser.add_argument(
        "--method",
        choices=(SALIENCY, INTEGRATED, PERMUTATION),
        default=INTEGRATED,
        help=f"default: {INTEGRATED}; saliency: plain gradients; permutation: one importance per input",
    )
    parser.add_argument(
        "--rows",
        type=_rows,
        metavar="A:B",
        help="rows from A up to, but not including, B, counted from 0; default: 0:8, for permutation all",
    )
    parser.add_argument(
        "--target",
        type=_number,
        metavar="N",
        help="number of the output to explain; default: the predicted class, or the only output",
    )
    parser.add_argument(
        "--steps", type=whole_number(1), metavar="N", help=f"integration steps of {INTEGRATED}; default: {STEPS}"
    )
    parser.add_argument("--repeats", type=whole_number(1), metavar="N", help=f"shuffles per input; default: {REPEATS}")
    parser.add_argument(
        "--shape", type=_shape, metavar="HxW", help="draw inputs as images of this shape, for example 8x8"
    )
    parser.add_argument(
        "-o", "--output", type=path_argument, metavar="DIR", help="folder for METHOD.csv and METHOD.png (extra 'plot')"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)  # INPUT may come after options
    useless = {PERMUTATION: ("target", "steps"), SALIENCY: ("repeats", "steps"), INTEGRATED: ("repeats",)}
    for name in useless[arguments.method]:
        if getattr(arguments, name) is not None:
            parser.error(f"--{name} has no effect with --method {arguments.method}. Leave it out")

    def body(comm: Communicator) -> int:
        from hpcnn.comm.collectives import agree
        from hpcnn.tools.explain.pictures import image_shape
        from hpcnn.tools.open_run import open_by_numpy
        from hpcnn.tools.outputs import make_folder

        agree(comm, lambda: make_folder(arguments.output) if comm.rank == 0 else None)
        trained = open_by_numpy(comm, arguments)
        agree(comm, lambda: image_shape(trained.spec.network.input_shape, arguments.shape))
        if arguments.method == PERMUTATION:
            _permutation(trained, comm, arguments)
        else:
            _gradients(trained, comm, arguments)
        return 0

    return run_parallel(body)


def _gradients(trained: TrainedModel, comm: Communicator, arguments: argparse.Namespace) -> None:
    from hpcnn.comm.collectives import agree
    from hpcnn.tools.explain import gradients, outputs, pictures
    from hpcnn.tools.explain.inputs import chosen_inputs

    gradient = agree(comm, lambda: gradients.input_gradient(trained))
    agree(comm, lambda: gradients.check_target(arguments.target, trained.spec.network.output_shape[-1]))
    chosen, x = agree(comm, lambda: chosen_inputs(trained, comm, arguments.input, arguments.rows or FIRST_ROWS))

    def explain(sample: gradients.Array, target: int) -> gradients.Attribution:
        if arguments.method == SALIENCY:
            return gradients.saliency(gradient, sample, target)
        return gradients.integrated_gradients(gradient, sample, target, arguments.steps or STEPS)

    found = gradients.attribute(comm, gradient, x, arguments.target, explain)
    if comm.rank == 0:
        title = f"{arguments.method} of {trained.job.name}: {chosen.what}"
        outputs.show_attributions(title, chosen, found, _baseline(trained))
        shape = pictures.image_shape(trained.spec.network.input_shape, arguments.shape)
        draw = (
            partial(pictures.draw_bars, title, chosen, found)
            if shape is None
            else partial(pictures.draw_images, title, chosen, x, found, shape)
        )
        _write(arguments, outputs.attributions_csv(chosen, found), draw, pictures.shape_hint(x.shape[1:]))


def _permutation(trained: TrainedModel, comm: Communicator, arguments: argparse.Namespace) -> None:
    from hpcnn.comm.collectives import agree
    from hpcnn.tools.explain import outputs, pictures
    from hpcnn.tools.explain.inputs import chosen_samples
    from hpcnn.tools.explain.permutation import permutation_importance

    rows, repeats = arguments.rows or slice(None), arguments.repeats or REPEATS
    chosen, samples = agree(comm, lambda: chosen_samples(trained, comm, arguments.input, rows))
    importance = agree(comm, lambda: permutation_importance(trained, comm, samples, repeats))
    if comm.rank == 0:
        title = f"permutation importance of {trained.job.name}: {counted(len(samples), 'sample')}, {chosen.what}"
        outputs.show_importance(title, chosen, importance)
        input_shape = trained.spec.network.input_shape
        shape = pictures.image_shape(input_shape, arguments.shape)
        draw = partial(pictures.draw_importance, title, chosen, importance, shape)
        _write(arguments, outputs.importance_csv(chosen, importance), draw, pictures.shape_hint(input_shape))


def _baseline(trained: TrainedModel) -> str:
    """Describe what inputs of 0 mean to the network."""
    return {
        "none": "inputs of 0",
        "standardize": "the mean of the training data (0 after scaling)",
        "minmax": "the lowest values of the training data (0 after scaling)",
    }[trained.job.data.scale]


def _write(arguments: argparse.Namespace, table: str, draw: Callable[[Path], None], hint: str) -> None:
    from hpcnn.system.output import write_line
    from hpcnn.tools.pictures import write_results

    folder: Path | None = arguments.output
    if folder is None:
        return
    write_line(write_results(folder, arguments.method.replace("-", "_"), table, draw))
    if hint and arguments.shape is None:
        write_line(hint)


def _rows(text: str) -> slice:
    found = re.fullmatch(r"(\d*):(\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a range of rows. Give it as 0:8, or 100: for all rows from 100 on"
        )
    first, last = (int(part) if part else None for part in found.groups())
    return slice(first, last)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of an output, counted from 0")
    return int(text)


def _shape(text: str) -> tuple[int, ...]:
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)(?:x([34]))?", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not an image shape. Give it as 8x8, or 32x32x3 for colours")
    return tuple(int(part) for part in found.groups() if part)


if __name__ == "__main__":
    sys.exit(main())
