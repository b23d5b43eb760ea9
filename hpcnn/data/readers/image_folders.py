"""Which pictures a folder or a table names, and their targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcnn.data.readers.csv import CsvReader
from hpcnn.data.readers.image_files import ENDINGS
from hpcnn.data.readers.parquet import ParquetReader
from hpcnn.data.source import unread
from hpcnn.data.tables.parts import find_table
from hpcnn.data.tables.rows import Field, TableRows, table_rows
from hpcnn.data.tables.select import target_places
from hpcnn.errors import DataError, nearest, shortened
from hpcnn.job import data as schema

TRAINING, HELD = ("train", "training"), ("validation", "valid", "val", "test")
"""Names of the folders of training and validation pictures; of those for validation the first that there is."""
_MACOS = "__MACOSX"
"""A folder that macOS puts into archives, of files that are no pictures whatever their endings."""


@dataclass(frozen=True, eq=False)
class Listing:
    """Pictures in their order, with what belongs to each."""

    pictures: tuple[Path, ...]
    targets: TableRows | None = None
    """A row a picture: its class in words, or numbers."""
    weights: TableRows | None = None
    """A number a picture."""
    masks: tuple[Path, ...] = ()
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
        files = sorted(path for path in folder.rglob("*") if _is_listed(path) and not _is_hidden(path, folder))
    except OSError as error:
        raise unread(error.filename or folder, error.strerror or error) from None
    found = [path for path in files if path.suffix.lower() in ENDINGS]
    return found, [path.name for path in files if path.suffix.lower() not in ENDINGS]


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") or part == _MACOS for part in path.relative_to(folder).parts)


def _is_listed(path: Path) -> bool:
    """Return whether a path is a file, or a link to one that is gone, whose reading has a message."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def list_classes(folder: Path, classes: Sequence[str]) -> Listing:
    """Return the pictures of the folders of the classes, in the order of their names.

    Raises:
        DataError: there are no such folders, one has no pictures, or a folder is none of `classes`, if those are given.
    """
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_hidden(path, folder))
    if not found:
        raise DataError(
            f'{folder} has no folders, but source "images" takes one for each class, with its pictures. Sort them '
            "so, or give data.table or data.masks."
        )
    pictures: list[Path] = []
    labels: list[int] = []
    left_out: list[str] = []
    for number, name in enumerate(found):
        if classes and name not in classes:
            raise DataError(
                f"{folder / name} is none of data.classes, {shortened(', '.join(classes))}.{nearest(name, classes)} "
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
        labels += [number] * len(own)
        left_out += others
    targets = TableRows(np.array(labels, np.int64), [Field("class", "words", tuple(found))])
    return Listing(tuple(pictures), targets, left_out=tuple(left_out))


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


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, or no name at all
        return False


def list_table(table: str, data: schema.Images, folder: Path, base: Path) -> Listing:
    """Return the pictures that a table lists, with their targets, and weights if a column of them is named.

    Raises:
        DataError: the file, a column or a picture is missing, or a cell with a path is empty.
    """
    targets: list[str | int] = [*data.targets]
    own_weights = [data.weights] if data.weights else []
    wanted = [data.paths, *data.targets, *own_weights]
    columns = {data.paths: schema.TableColumn(kind="category")}  # words, whatever they look like
    if table.lower().endswith(ParquetReader.endings):
        found = ParquetReader().table(
            find_table(table, base), schema.Parquet(path=table, targets=targets, columns=columns), wanted
        )
    else:
        found = CsvReader().table(
            find_table(table, base), schema.Csv(path=table, targets=targets, columns=columns), wanted
        )
    (paths,) = found.pick(target_places(found, [data.paths], "paths")).columns
    if paths.kind != "words":
        raise DataError(f"{found.path}: column {data.paths!r} holds no paths. Name the one that does in data.paths.")
    empty = np.flatnonzero(paths.values < 0)
    if len(empty):
        raise DataError(f"{found.path}: {data.paths!r} is empty in row {empty[0]}, counted from 0. Fill it in.")
    pictures = [folder / paths.words[place] for place in paths.values]
    for one in pictures:
        if not _is_there(one):
            listed = shortened(one)
            raise DataError(f"{found.path} lists {listed}, which does not exist. Correct the path, or data.folder.")
    weights = found.pick(target_places(found, own_weights, "weights")).columns
    return Listing(
        tuple(pictures),
        table_rows(found.pick(target_places(found, targets)).columns, flat=True),
        table_rows(weights, flat=True) if weights else None,
    )
