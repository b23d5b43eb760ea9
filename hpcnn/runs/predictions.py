"""Writes predictions to a file: a NumPy array of the outputs, or a CSV table of classes in words or of values."""

from __future__ import annotations

import csv
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.errors import DataError
from hpcnn.runs.answers import Answer, answers_of
from hpcnn.runs.inference import TrainedModel, predict
from hpcnn.system.output_files import check_output_path, output_path
from hpcnn.training.loader import PieceLoader

ENDINGS = (".npy", ".csv")


class _File(ABC):
    """A file that outputs are written to, block by block."""

    @abstractmethod
    def write(self, outputs: Array) -> None:
        """Append the outputs of some samples, (k, *shape)."""


class _ArrayFile(_File):
    """A .npy file."""

    def __init__(self, stack: ExitStack, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._file = stack.enter_context(path.open("wb"))
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, outputs: Array) -> None:
        self._file.write(np.ascontiguousarray(outputs).data)


class _TableFile(_File):
    """A CSV file, in which numbers have as many digits as tell them apart."""

    def __init__(self, stack: ExitStack, path: Path, answer: Answer, files: Sequence[str]) -> None:
        file = stack.enter_context(path.open("w", encoding="utf-8", errors="surrogateescape", newline=""))
        self._answer, self._writer = answer, csv.writer(file, lineterminator="\n")
        self._first = [[name] for name in files]
        self._written = 0
        self._writer.writerow([*(["file"] if files else []), *answer.header])

    def write(self, outputs: Array) -> None:
        rows = self._answer.rows(outputs)
        if self._first:
            rows = [name + row for name, row in zip(self._first[self._written :], rows, strict=False)]
            self._written += len(rows)
        self._writer.writerows(rows)


def write_predictions(
    trained: TrainedModel, comm: Communicator, loader: PieceLoader, out: Path
) -> dict[Path, tuple[int, ...]]:
    """Write the outputs for all inputs to `out`, a .npy or .csv file, block by block. Collective.

    Each of several outputs has a file of its own, with its name before the ending. A .csv file has a header; where
    classes are predicted, its first column is the class, in the words of the training data, and the others are the
    probabilities. Where each sample is a file, its name comes first, as `file`.

    Returns:
        The shape of what is in each file.

    Raises:
        DataError: the outputs do not fit into a .csv file, or it can't be written.
    """
    network = trained.spec.network
    named = {out.with_name(f"{out.stem}.{output.name}{out.suffix}"): output for output in network.outputs}
    shapes = {path: output.shape for path, output in named.items()} or {out: network.output_shape}
    meanings = agree(comm, lambda: answers_of(trained)) if out.suffix == ".csv" else {}
    answers = dict(zip(shapes, meanings.values(), strict=False))
    with ExitStack() as stack:
        files: dict[Path, _File] = {}
        for path, shape in shapes.items() if comm.rank == 0 else ():
            inner = stack.enter_context(_files_of(path))
            with writing(path):
                temporary = inner.enter_context(output_path(path))
                if answers:
                    files[path] = _TableFile(inner, temporary, answers[path], loader.files)
                else:
                    files[path] = _ArrayFile(inner, temporary, (loader.samples, *shape), trained.job.train.dtype)
        for outputs in predict(trained, comm, loader):
            for path, file in files.items() if outputs is not None else ():
                assert outputs is not None
                with writing(path):
                    file.write(named[path].of(outputs) if named else outputs)
    return {path: (loader.samples, *shape) for path, shape in shapes.items()}


@contextmanager
def _files_of(path: Path) -> Iterator[ExitStack]:
    """Yield a stack of what is open for the output at `path`. To close it may fail, too: it writes what is buffered."""
    stack = ExitStack()
    try:
        yield stack
    except BaseException:
        with suppress(OSError):  # the first error tells more
            stack.__exit__(*sys.exc_info())
        raise
    with writing(path):
        stack.close()


def check_output(out: Path, *, writes: bool) -> None:
    """Check the output file before anything is computed; `writes` on the rank that will write it."""
    if out.suffix not in ENDINGS:
        raise DataError(f"the output {str(out)!r} must be a .npy file, or a .csv file")
    if not out.parent.is_dir():
        raise DataError(f"there is no folder {str(out.parent)!r} to write {out.name!r} to")
    if writes:
        with writing(out):
            check_output_path(out)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turn errors of writing a file into messages."""
    try:
        yield
    except OSError as error:
        raise DataError(f"can't write {str(out)!r} ({error.strerror}). Give another file by -o.") from None
