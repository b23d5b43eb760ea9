"""Which pictures a folder or a table names, and their targets."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn.data.readers.image_files import ENDINGS
from hpcnn.data.rows import Array
from hpcnn.data.source import resolve, unread
from hpcnn.errors import DataError, nearest, shortened
from hpcnn.job import data as schema

TRAINING, HELD = ("train", "training"), ("validation", "valid", "val", "test")
"""Names of the folders of training and validation pictures; of those for validation the first that there is."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Pictures in their order, with what belongs to each."""

    pictures: tuple[Path, ...]
    targets: Array | None = None
    """A row a picture."""
    masks: tuple[Path, ...] = ()
    classes: tuple[str, ...] = ()
    """The words of the classes, in the order of their numbers."""
    left_out: tuple[str, ...] = ()
    """Names of files that are no pictures by their ending."""


def parts_of(folder: Path) -> tuple[Path, Path | None]:
    """Return the folders of the training and the validation pictures: itself, unless it holds folders of these names.

    Raises:
        DataError: there is only one for validation.
    """
    train, held = (next((folder / name for name in names if (folder / name).is_dir()), None)
                   for names in (TRAINING, HELD))  # fmt: skip
    return (folder, None) if train is None else (train, held)


def pictures_in(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the pictures in a folder and those below it, sorted by path, and the names of other files."""
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_hidden(path, folder))
    except OSError as error:
        raise unread(error.filename or folder, error.strerror or error) from None
    found = [path for path in files if path.suffix.lower() in ENDINGS]
    return found, [path.name for path in files if path.suffix.lower() not in ENDINGS]


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def list_classes(folder: Path, classes: Sequence[str]) -> Listing:
    """Return the pictures of the folders of the classes, whose numbers are their places in `classes`, or in order.

    Raises:
        DataError: there are no such folders, one has no pictures, or a folder is none of `classes`.
    """
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise DataError(
            f'{folder} has no folders, but source "images" takes one for each class, with its pictures. Sort them '
            "so, or give data.table or data.masks."
        )
    names = list(classes) or found
    pictures: list[Path] = []
    labels: list[int] = []
    left_out: list[str] = []
    for name in found:
        if name not in names:
            raise DataError(
                f"{folder / name} is none of the classes {shortened(', '.join(names))}.{nearest(name, names)} "
                "Rename it, or move it elsewhere."
            )
        if not name.isprintable() or any("\ud800" <= one <= "\udfff" for one in name):
            raise DataError(f"the name of the folder {shortened(repr(name))} in {folder} is no text. Rename it.")
        own, others = pictures_in(folder / name)
        if not own:
            raise DataError(
                f"{folder / name} holds no pictures ({', '.join(ENDINGS)}). Add some, or remove the folder."
            )
        pictures += own
        labels += [names.index(name)] * len(own)
        left_out += others
    return Listing(tuple(pictures), np.array(labels, np.int64), classes=tuple(names), left_out=tuple(left_out))


def list_masks(folder: Path, masks: Path) -> Listing:
    """Return the pictures of a folder with the masks that have their names. DataError: some have none, or several."""
    pictures, left_out = pictures_in(folder)
    if not pictures:
        raise DataError(f"{folder} holds no pictures ({', '.join(ENDINGS)}).")

    def key(path: Path, root: Path) -> str:
        return path.relative_to(root).with_suffix("").as_posix()

    candidates = pictures_in(masks)[0]
    for root, paths in ((folder, pictures), (masks, candidates)):
        twice = [name for name, count in Counter(key(path, root) for path in paths).items() if count > 1]
        if twice:
            raise DataError(f"{root} has several pictures named {twice[0]!r}, of other endings. Keep one of them.")
    by_key = {key(path, masks): path for path in candidates}
    missing = [path for path in pictures if key(path, folder) not in by_key]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(pictures)} pictures in {folder} have no mask of the same name in {masks}, the "
            f"first is {missing[0]}. Add the masks, or remove the pictures."
        )
    return Listing(
        tuple(pictures), masks=tuple(by_key[key(path, folder)] for path in pictures), left_out=tuple(left_out)
    )


def list_table(table: str, data: schema.Images, folder: Path, base: Path, classes: Sequence[str]) -> Listing:
    """Return the pictures that a CSV file lists, with their targets.

    Raises:
        DataError: the file or a picture is missing, a column is, a cell is empty, or several targets are no numbers.
    """
    path = resolve(table, base)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, strict=True)
            names, rows = list(lines.fieldnames or ()), list(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unread(path, getattr(error, "strerror", None) or error) from None
    for key in (data.paths, *data.targets):
        if key not in names:
            raise DataError(
                f"{path} has no column {key!r}.{nearest(key, names)} It has: {shortened(', '.join(names)) or 'none'}."
            )
    if not rows:
        raise DataError(f"{path} lists no pictures.")
    cells = [[row[key] for key in (data.paths, *data.targets)] for row in rows]
    for number, line in enumerate(cells, 1):
        if not all(line):
            raise DataError(f"{path}: a cell is empty in row {number}, counted from 1 below the header. Fill it in.")
    pictures = [folder / line[0] for line in cells]
    missing = next((one for one in pictures if not one.is_file()), None)
    if missing is not None:
        raise DataError(f"{path} lists {missing}, which does not exist. Correct the path, or data.folder.")
    targets, words = _targets([line[1:] for line in cells], path, classes)
    return Listing(tuple(pictures), targets, classes=words)


def _targets(cells: list[list[str]], path: Path, classes: Sequence[str]) -> tuple[Array, tuple[str, ...]]:
    """Return the targets as numbers, and the words that they number."""
    try:
        if classes:
            raise ValueError
        values = np.array(cells, np.float64)
        values = values[:, 0] if values.shape[1] == 1 else values
        whole = bool((np.abs(values) < 2**53).all()) and bool((values == np.rint(values)).all())
        return values.astype(np.int64) if whole else values, ()
    except (ValueError, OverflowError):
        if len(cells[0]) > 1:
            raise DataError(
                f"{path}: of several data.targets each must be a number in every row. Give one column of words, or "
                "columns of numbers."
            ) from None
    words = tuple(classes) or tuple(sorted({row[0] for row in cells}))
    unknown = next((row[0] for row in cells if row[0] not in words), None)
    if unknown is not None:
        raise DataError(
            f"{path}: {unknown!r} is none of the classes {shortened(', '.join(words))}.{nearest(unknown, words)}"
        )
    places = {word: place for place, word in enumerate(words)}
    return np.array([places[row[0]] for row in cells], np.int64), words
