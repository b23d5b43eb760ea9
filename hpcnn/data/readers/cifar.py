"""Reader of CIFAR-10 and CIFAR-100 in their binary version, memory-mapped.

The format: https://www.cs.toronto.edu/~kriz/cifar.html ("Binary version"). A record is a byte with the label, or two
(CIFAR-100: coarse and fine), and the bytes of an image, channels first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hpcnn.data.columns import Columns
from hpcnn.data.readers.npy import map_rows
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, ArrayRows, Buffer, ComputedRows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Inputs, Source, find_folder, places, unread
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_source

IMAGE = (3, 32, 32)
IMAGE_BYTES = 3072
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """One of the two data sets."""

    title: str
    archive: str
    folder: str
    """The folder in the archive."""
    train: tuple[str, ...]
    test: str
    counts: tuple[int, int]
    """Images in each file for training, and in that for testing."""
    labels: dict[str, tuple[int, int]]
    """The place of each label in a record, and its number of classes."""

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return len(self.labels) + IMAGE_BYTES

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files."""
        return (*self.train, self.test)

    @property
    def python_archive(self) -> str:
        """The archive of the version for Python."""
        return self.archive.replace("binary", "python")

    @property
    def python_folder(self) -> str:
        """The folder in it."""
        return self.folder.replace("-bin", "-py").replace("-pyary", "-python")

    def count(self, name: str) -> int | None:
        """Return the number of images in the file of that name; None for another name."""
        return self.counts[name == self.test] if name in self.files else None


KINDS = {
    "cifar10": Kind(
        "CIFAR-10", "cifar-10-binary.tar.gz", "cifar-10-batches-bin",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", (10_000, 10_000), {"fine": (0, 10)},
    ),
    "cifar100": Kind(
        "CIFAR-100", "cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",), "test.bin", (50_000, 10_000),
        {"coarse": (0, 20), "fine": (1, 100)},
    ),
}  # fmt: skip


class CifarImages(ComputedRows):
    """The images of several files, one after the other, channels last."""

    def __init__(self, files: Sequence[Bytes]) -> None:
        self._files = [records[:, -IMAGE_BYTES:] for records in files]
        self._ends = list(accumulate(map(len, files)))
        super().__init__((self._ends[-1], *IMAGE[1:], IMAGE[0]), np.uint8)
        self._planes = Buffer((IMAGE_BYTES,), np.uint8)

    def _fill(self, rows: Indices, values: Array) -> None:
        planes, channels = self._planes.rows(len(rows)), IMAGE[0]
        for plane, row in zip(planes, rows.tolist(), strict=True):
            file = bisect_right(self._ends, row)
            plane[...] = self._files[file][row - self._ends[file]]  # counted from the end of the file
        pixels = values.reshape(len(rows), -1, channels)
        for channel, plane in enumerate(np.split(planes, channels, axis=1)):
            np.copyto(pixels[:, :, channel], plane)


def read_records(path: Path, kind: Kind) -> Bytes:
    """Return the records of a file, mapped. DataError: it does not consist of records, or a label is no class."""
    expected = f"{kind.title} in binary consists of records of {kind.record:,} bytes"
    try:
        size = path.stat().st_size
        if not size or size % kind.record:
            raise unread(path, f"it holds {size:,} bytes, but a file of {expected}")
        records = map_rows(path, np.dtype(np.uint8), (size // kind.record, kind.record), 0).array
        for name, (column, classes) in kind.labels.items():
            highest = int(records[:, column].max())
            if highest >= classes:
                row = int((records[:, column] >= classes).argmax())
                raise unread(
                    path, f"image {row} has {name} label {records[row, column]}, but {kind.title} has {classes} classes"
                )
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise unread(path, getattr(error, "strerror", None) or error) from None
    return records


def find_files(folder: Path, kind: Kind, names: Sequence[str]) -> list[Path]:
    """Return these files in `folder` or in the folder of the archive below it. DataError: some are missing."""
    for place in (folder, folder / kind.folder):
        paths = [place / name for name in names]
        if all(path.is_file() for path in paths):
            return paths
    place = folder / kind.folder if (folder / kind.folder).is_dir() else folder
    missing = [name for name in names if not (place / name).is_file()]
    pickled = next(
        (one for one in (place, place / kind.python_folder)
         if any((one / name.removesuffix(".bin")).is_file() for name in names)), None,
    )  # fmt: skip
    if pickled is not None:
        raise DataError(
            f"{pickled} holds the Python version of {kind.title}, whose pickles could run code, which is refused. Get "
            f"the binary version, {kind.archive}, from the same page: https://www.cs.toronto.edu/~kriz/cifar.html"
        )
    archive = next((path for path in (folder / kind.archive, place / kind.archive) if path.is_file()), None)
    remedy = f"Unpack {archive}: tar -xzf {kind.archive}." if archive else (
        f"They come in the archive {kind.archive}, the binary version of {kind.title}: unpack it there, or set "
        "data.folder."
    )  # fmt: skip
    raise DataError(
        f"missing in the folder {place}{'' if place.is_dir() else ' (which does not exist)'}: {', '.join(missing)}. "
        f"{remedy}"
    )


def _rows(paths: Sequence[Path], kind: Kind, labels: str) -> tuple[CifarImages, ArrayRows]:
    files = [read_records(path, kind) for path in paths]
    column = kind.labels[labels][0]
    return CifarImages(files), ArrayRows(np.concatenate([records[:, column] for records in files]))


def _counts_note(paths: Sequence[Path], kind: Kind) -> tuple[str, ...]:
    """Return a warning for files of another number of images than those of the archive."""
    odd = []
    for path in paths:
        expected, held = kind.count(path.name), path.stat().st_size // kind.record
        if expected is not None and held != expected:
            odd.append(f"{path} holds {held:,} images, that of {kind.archive} {expected:,}")
    return (f"{'; '.join(odd)}. Is the download complete?",) if odd else ()


class CifarReader(Reader[schema.Cifar]):
    """Reads the batches in a folder."""

    section, holds_targets, any_ending = schema.Cifar, True, True

    def read(self, data: schema.Cifar, base: Path) -> Source:
        """Read the batches of a folder, or a single one. DataError: files are missing (lists all) or damaged."""
        kind = KINDS[data.name]
        check_source(data)
        file = next((place for place in places(data.folder, base) if place.is_file()), None)
        if file is not None and file.name.endswith((".tar.gz", ".tgz", ".tar")):
            packed = file.name == kind.python_archive
            remedy = f"get {kind.archive} in its place: pickles could run code" if packed else (
                f"unpack it there: tar -xzf {file.name}, and set data.folder to the folder {kind.folder}"
            )  # fmt: skip
            raise DataError(f"{file} is an archive{' of pickles' if packed else ''}; {remedy}.")
        if file is not None and data.part == "both":
            raise JobError(
                f'data.folder = {data.folder!r} is a single file, but data.part = "both" needs those for training and '
                'the test batch: name their folder, or set part to "train" or "test"'
            )
        if file is not None:
            return Source(*_rows([file], kind, data.labels), notes=_counts_note([file], kind))
        folder = find_folder(data.folder, base) or places(data.folder, base)[0]
        names = {"both": kind.files, "train": kind.train, "test": (kind.test,)}[data.part]
        paths = find_files(folder, kind, names)
        notes = _counts_note(paths, kind)
        if data.part != "both":
            return Source(*_rows(paths, kind, data.labels), notes=notes)
        train, test = _rows(paths[:-1], kind, data.labels), _rows(paths[-1:], kind, data.labels)
        return Source(*train, test, notes=notes)

    def read_inputs(self, path: Path, data: schema.Cifar, columns: Columns | None, features: int | None) -> Inputs:
        """Read the images of a batch; see `Reader.read_inputs`."""
        return Inputs(CifarImages([read_records(path, KINDS[data.name])]))

    def pair_settings(self, path: str, data: schema.DataSection, base: Path) -> schema.Cifar | None:
        """Return settings for a folder of batches: the test batch if it is there, else those for training."""
        folder = find_folder(path, base)
        if folder is None or not isinstance(data, schema.Cifar):
            return None
        kind = KINDS[data.name]
        held = any((place / kind.test).is_file() for place in (folder, folder / kind.folder))
        return _for_one_part(data, str(folder), "test" if held else "train")

    def sample_settings(self, path: str, data: schema.DataSection, columns: Columns | None) -> schema.Cifar:
        """Return settings for one batch; only a job whose own data are such batches asks for them."""
        assert isinstance(data, schema.Cifar)
        return _for_one_part(data, path, "test")


def _for_one_part(data: schema.Cifar, folder: str, part: Literal["train", "test"]) -> schema.Cifar:
    return msgspec.structs.replace(data, folder=folder, part=part, validation_fraction=0.0)
