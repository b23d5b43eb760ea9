"""What readers return, and how they find their files."""

from __future__ import annotations

import glob
import importlib
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.columns import Columns
from hpcnn.data.row_copies import columns_to_rows
from hpcnn.data.rows import Array, ReshapedRows, Rows
from hpcnn.errors import DataError, MissingExtraError, shortened
from hpcnn.system.free_memory import free_memory

DEFLATE_RATIO = 1032
"""Largest number of bytes that a deflated byte can expand to."""
AXES_LIMIT = 64
"""Most axes of a NumPy array."""
ENTRIES_LIMIT = 2**58
"""NumPy counts bytes in 63 bits, with each axis of length 0 counted as 1; an entry has at most 16 bytes."""


@dataclass(frozen=True, eq=False)
class Source:
    """Data as read: not checked against the job, split or scaled."""

    x: Rows
    y: Rows
    validation: tuple[Rows, Rows] | None = None
    columns: Columns | None = None
    """Names of the columns, where they have some."""
    split: bool = False
    """Whether `validation` is the fraction that the settings hold out: the end of a sequence."""
    vocabulary: str = ""
    """The characters of a text in the order of their numbers."""
    computed: bool = False
    """Whether a formula computes the values, so that they are finite and need no check."""
    digests: tuple[str, ...] = ()
    """SHA-256 of all values, if already known; see `hpcnn.data.digests.digests`."""
    notes: tuple[str, ...] = ()
    """Warnings for the user."""
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The shapes of several inputs, where the rows of `x` are those side by side."""
    weights: Rows | None = None
    """Weights of the samples, shape (n,)."""
    validation_weights: Rows | None = None
    """The same of the validation data."""
    file_places: tuple[int, ...] = ()
    """Of a table: where its inputs are in the file, from 0."""
    features: tuple[str, ...] | None = None
    """Names of the entries of `x`, where they are others than those of the columns."""
    held_out: NDArray[np.bool_] | None = None
    """Which samples a column of the table holds out for validation."""
    groups: Rows | None = None
    """A number for each sample, (n,): samples of one number stay on one side of the split, or are one time series."""
    validation_groups: Rows | None = None
    """The same of the validation data."""

    @property
    def arrays(self) -> tuple[Rows, ...]:
        """Inputs and targets, then those for validation if there are any."""
        return (self.x, self.y, *(self.validation or ()))

    @property
    def others(self) -> tuple[Rows, ...]:
        """What else there is of the samples: weights, those for validation, groups."""
        return tuple(rows for rows in (self.weights, self.validation_weights, self.groups) if rows is not None)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the inputs."""
        return self.features or (self.columns.inputs if self.columns else None)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs for prediction."""

    x: Rows
    feature_names: tuple[str, ...] | None = None
    """Names of their columns, where they have some."""
    notes: tuple[str, ...] = ()
    """Warnings for the user."""
    groups: Rows | None = None
    """A number for each row, (n,): the time series that it is of, where there are several."""
    files: tuple[str, ...] = ()
    """The file of each row, as its path in the folder that was named, where each has one."""


def with_features(source: Source) -> Source:
    """Return the source with inputs of shape (n,) as (n, 1): one feature per sample."""

    def shaped(x: Rows) -> Rows:
        return ReshapedRows(x, (1,)) if len(x.shape) == 1 else x

    held = source.validation
    return replace(source, x=shaped(source.x), validation=None if held is None else (shaped(held[0]), held[1]))


def places(path: str, base: Path) -> tuple[Path, ...]:
    """Return the candidates for `path`: itself if absolute, else below the job file's folder and the working folder.

    Raises:
        DataError: it is not a valid path, or is a circular link.
    """
    try:
        given = Path(path).expanduser()
        if given.is_absolute():
            found: tuple[Path, ...] = (given,)
        else:
            here, there = base / given, Path.cwd() / given
            found = (here,) if here.resolve() == there.resolve() else (here, there)
        for place in found:
            place.is_file()  # False if there is none; raises if it is not accessible
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path!r} is not accessible: {shortened(error)}. Give another path.") from None
    return found


def find_folder(path: str, base: Path) -> Path | None:
    """Return the folder `path`, looked for as `places` says; None if there is none."""
    return next((place for place in places(path, base) if place.is_dir()), None)


def resolve(path: str, base: Path) -> Path:
    """Return the file `path`, in the job file's folder `base`, else in the working folder. DataError: there is none."""
    candidates = places(path, base)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    folders = [str(candidate) for candidate in candidates if candidate.is_dir()]
    if folders:
        raise DataError(f"{folders[0]} is a folder, but a file is needed. Give the file in it.")
    raise DataError(
        f"no data file {path!r}: looked for {' and '.join(map(str, candidates))}. "
        "Relative paths are looked for in the job file's folder, then in the working folder."
    )


def find_files(path: str, base: Path) -> list[Path]:
    """Return the file `path`, or all files that match it as a pattern. DataError: there is none."""
    if not glob.has_magic(path) or any(place.is_file() for place in places(path, base)):
        return [resolve(path, base)]
    for folder in (base, Path.cwd()):
        pattern = str(Path(path).expanduser())
        found = sorted(glob.glob(pattern, root_dir=folder, recursive=True))  # noqa: PTH207 - it may be absolute
        files = [folder / name for name in found if (folder / name).is_file()]
        if files:
            return files
    raise DataError(
        f"no file matches {path!r}: looked for {' and '.join(map(str, places(path, base)))}. Relative patterns start "
        "at the job file's folder, then at the working folder."
    )


def check_numeric(dtype: np.dtype[np.generic], what: object) -> None:
    """Raise DataError unless `dtype` holds real numbers or booleans. `what` names the array and its file."""
    if dtype.hasobject:
        raise DataError(
            f"{what} holds Python objects (dtype {dtype}), whose pickles could run code, which is refused. "
            "Save it as an array of numbers."
        )
    if dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {dtype}; allowed are booleans, integers and real floats. Convert it first.")


def check_axes(shape: tuple[int, ...], what: object) -> None:
    """Raise DataError unless `shape` has a first axis, that of the samples."""
    if not shape:
        raise DataError(f"{what} is a single number, but an array with one row per sample is needed.")


def check_countable(shape: tuple[int, ...], what: object) -> None:
    """Raise DataError unless NumPy supports arrays of this shape, memory aside."""
    if len(shape) > AXES_LIMIT or math.prod(max(1, size) for size in shape) > ENTRIES_LIMIT:
        raise DataError(f"{what} has shape {shortened(shape)}; NumPy supports {AXES_LIMIT} axes and fewer entries.")


def check_memory(needed: int, what: object, advice: str) -> None:
    """Raise DataError if `needed` bytes are not free, before they are allocated: the system might kill the process."""
    free = free_memory()
    if free is not None and needed > free:
        raise DataError(
            f"{what} takes {needed} bytes of memory, but only {free} are available on this machine. {advice}"
        )


def check_inflated(declared: int, deflated: int, what: object) -> None:
    """Raise DataError if `deflated` bytes can't expand to the declared size, or it exceeds the memory."""
    most = DEFLATE_RATIO * deflated
    if declared > most:
        raise unread(what, f"its header declares {declared} bytes, but it can't hold more than {most}")
    check_memory(declared, what, "Save it uncompressed: such a file is memory-mapped.")


_COLUMN_PART = 2**13
"""Rows of all columns that are converted at once."""
_WIDEST = 8
"""Most bytes of a number that the core knows."""
NAME_ARRAYS = "Name those of inputs and targets by data.x and data.y."


def unread(path: object, why: object) -> DataError:
    """Return the error for a file that is damaged or of another format."""
    in_one_line = shortened(" ".join(str(why).split()))
    return DataError(f"{path} can't be read: {in_one_line}. Is the file complete, and of the format in the job?")


def read_rest(stream: io.BufferedIOBase, declared: int, what: object) -> NDArray[np.uint8]:
    """Return the remaining bytes of a stream. It is read to its end, so that checksums are verified.

    Raises:
        DataError: their number differs from the declared one.
    """
    values = np.empty(declared, np.uint8)
    view, position = values.data, 0
    while position < declared and (count := stream.readinto(view[position:])):
        position += count
    if position < declared or stream.read(1):
        held = f"only {position}" if position < declared else "more"
        raise unread(what, f"its header declares {declared} bytes, but {held} follow")
    return values


def column_values(columns: Iterable[Array], n: int) -> Array:
    """Return columns of shape (n,) as one C-ordered array (n, columns), of a type that holds them all."""
    columns = list(columns)
    table = np.empty((n, len(columns)), np.result_type(*columns))
    if table.itemsize > _WIDEST:
        return np.stack(columns, 1, table)
    whole = table.view(f"u{table.itemsize}")
    with np.errstate(invalid="ignore"):  # a signalling NaN; the checks find it
        for first in range(0, n, _COLUMN_PART):
            part = slice(first, first + _COLUMN_PART)
            values = (np.ascontiguousarray(column[part], table.dtype) for column in columns)
            columns_to_rows(tuple(one.view(whole.dtype) for one in values), whole[part])
    return table


def optional_import(module: str, extra: str, purpose: str, package: str = "") -> Any:
    """Import an optional module. MissingExtraError: it is not installed; says which extra installs `package`."""
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # installed, but broken
        raise MissingExtraError(package or top, extra, purpose) from None
