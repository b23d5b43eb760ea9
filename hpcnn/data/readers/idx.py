"""Reader of IDX files, the format of MNIST: memory-mapped, or read into memory from `.gz`.

The format: https://web.archive.org/web/2024/http://yann.lecun.com/exdb/mnist/ ("THE IDX FILE FORMAT").
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn.core.formatting import counted
from hpcnn.data.columns import Columns
from hpcnn.data.readers.npy import map_rows
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import Inputs, Source, check_countable, check_inflated, find_folder, places, read_rest, unread
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

DEFAULTS = tuple(
    field.default for field in msgspec.structs.fields(schema.Idx) if field.name.endswith(("images", "labels"))
)
"""The names of the files of MNIST."""


def _read_header(file: io.BufferedIOBase, what: Path) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise unread(
            what,
            f"it begins with {magic.hex(' ') or 'nothing'}, but an IDX file with 00 00, a type code "
            f"({', '.join(f'{code:02x}' for code in TYPES)}) and the number of axes",
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise unread(what, f"it ends within its header of {magic[3]} axes")
    return np.dtype(TYPES[magic[2]]), tuple(int(size) for size in np.frombuffer(sizes, ">u4"))


def _inflate(path: Path) -> ArrayRows:
    with gzip.open(path, "rb") as file:
        dtype, shape = _read_header(file, path)
        declared = math.prod(shape) * dtype.itemsize
        check_inflated(declared, path.stat().st_size, path)
        check_countable(shape, path)
        return ArrayRows(read_rest(file, declared, path).view(dtype).reshape(shape))


def _map(path: Path) -> ArrayRows:
    with path.open("rb") as file:
        dtype, shape = _read_header(file, path)
        declared, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if declared != held:
            raise unread(path, f"its header declares {shape} {dtype}, {declared} bytes, but {held} bytes follow")
        check_countable(shape, path)
        return map_rows(path, dtype, shape, file.tell())


def read_idx(path: Path) -> ArrayRows:
    """Return the rows of one IDX file, of any type and number of axes, plain or `.gz`.

    Raises:
        DataError: the magic number is wrong, or the file is damaged or of another length than declared.
    """
    try:
        return _inflate(path) if path.suffix == ".gz" else _map(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise unread(path, f"damaged gzip file ({error})") from None
    except OSError as error:
        raise unread(path, error.strerror or error) from None


def find(folder: Path, name: str) -> Path | None:
    """Return the file `name` of `folder`, or None: with or without `.gz`, with `.idx` for `-idx`, or EMNIST's.

    Some archives unpack each file into a folder of its own name. DataError: the folder holds several parts of EMNIST.
    """
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    endings = ("", ".gz") if name == plain else (".gz", "")
    for file in (f"{form}{ending}" for form in dict.fromkeys((plain, dotted)) for ending in endings):
        for place in (folder / file, folder / file / file):
            if place.is_file():
                return place
    return _find_emnist(folder, plain.replace("t10k-", "test-")) if plain in DEFAULTS else None


def _find_emnist(folder: Path, name: str) -> Path | None:
    """Return the file of EMNIST whose name ends like one of MNIST: emnist-letters-train-images-idx3-ubyte.gz."""
    found = sorted(path for path in folder.glob(f"emnist-*-{name}*") if path.name.endswith((name, f"{name}.gz")))
    parts = sorted({path.name.split("-")[1] for path in found})
    if len(parts) > 1:
        raise DataError(
            f"{folder} holds several parts of EMNIST: {', '.join(parts)}. Name the files of one by data.images, "
            f'data.labels and those of validation, as images = "emnist-{parts[0]}-train-images-idx3-ubyte".'
        )
    return found[0] if found else None


def read_pair(folder: Path, images: str, labels: str) -> tuple[ArrayRows, ArrayRows]:
    """Return the rows of a file of images and of one of labels, both of which exist in `folder`.

    Raises:
        DataError: a file is damaged, labels have several axes, or the numbers of images and labels differ.
    """
    image_path, label_path = find(folder, images), find(folder, labels)
    assert image_path is not None
    assert label_path is not None
    x, y = read_idx(image_path), read_idx(label_path)
    if len(y.shape) != 1:
        raise DataError(f"{label_path} has {len(y.shape)} axes, but labels have one. Are images and labels swapped?")
    if x.shape[0] != y.shape[0]:
        raise DataError(
            f"{image_path} holds {counted(x.shape[0], 'image')}, but {label_path} {counted(y.shape[0], 'label')}. "
            "Give two files that belong together."
        )
    return x, y


class IdxReader(Reader[schema.Idx]):
    """Reads IDX files, one of images and one of labels in a folder."""

    section, endings = schema.Idx, ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")

    def read(self, data: schema.Idx, base: Path) -> Source:
        """Read the images and labels of a folder. DataError: files are missing (lists all), damaged, inconsistent."""
        if bool(data.validation_images) != bool(data.validation_labels):
            raise JobError(
                f"data.validation_images = {data.validation_images!r}, but data.validation_labels = "
                f"{data.validation_labels!r}. Give both, or make both empty."
            )
        folder = find_folder(data.folder, base) or places(data.folder, base)[0]
        pairs = [(data.images, data.labels)]
        if data.validation_images:
            pairs.append((data.validation_images, data.validation_labels))
        missing = [name for pair in pairs for name in pair if find(folder, name) is None]
        if missing:
            raise DataError(
                f"missing in the folder {folder}{'' if folder.is_dir() else ' (which does not exist)'}: "
                f"{', '.join(missing)}; each may end in .gz. Put the files there, or set data.folder."
            )
        read_pairs = [read_pair(folder, *pair) for pair in pairs]
        return Source(*read_pairs[0], read_pairs[1] if len(read_pairs) > 1 else None)

    def settings_for(self, path: str, columns: Columns | None) -> schema.Idx:
        """Return settings for a file of inputs."""
        return schema.Idx(folder=path)

    def read_inputs(self, path: Path, data: schema.Idx, columns: Columns | None, features: int | None) -> Inputs:
        """Read one file; see `Reader.read_inputs`."""
        return Inputs(read_idx(path))

    def pair_settings(self, path: str, data: schema.DataSection, base: Path) -> schema.Idx | None:
        """Return settings for a folder: the pair for validation if it is there, else that for training."""
        folder = find_folder(path, base)
        if folder is None:
            return None
        names = data if isinstance(data, schema.Idx) else schema.Idx(folder=path)
        held = (names.validation_images, names.validation_labels)
        images, labels = held if all(name and find(folder, name) for name in held) else (names.images, names.labels)
        return schema.Idx(folder=str(folder), images=images, labels=labels, validation_images="", validation_labels="")
