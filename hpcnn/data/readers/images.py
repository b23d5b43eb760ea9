"""Reader of pictures in folders, of a class each, listed in a table, or with masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hpcnn.data.columns import Columns
from hpcnn.data.readers.image_files import (
    ENDINGS,
    DecodedRows,
    Form,
    Header,
    MaskForm,
    check_mask,
    read_header,
)
from hpcnn.data.readers.image_folders import Listing, list_classes, list_masks, list_table, parts_of, pictures_in
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import ArrayRows, Rows
from hpcnn.data.source import Inputs, Source, find_folder
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_source


def common_form(headers: Sequence[Header], data: schema.Images) -> Form:
    """Return what pictures are brought to. DataError: without a size they differ in it, or they differ in type."""
    first, size = headers[0], (data.size[0], data.size[1]) if data.size else headers[0].size
    other = next((one for one in headers if one.size != size), None)
    if other is not None and not data.size:
        raise DataError(
            f"pictures of different sizes: {first.path} has {first.size[0]} x {first.size[1]} pixels (height x width), "
            f"{other.path} {other.size[0]} x {other.size[1]}. Set data.size = [height, width] for all."
        )
    other = next((one for one in headers if one.dtype != first.dtype), None)
    if other is not None:
        raise DataError(
            f"pictures of different types: {first.path} is read as {first.dtype}, {other.path} as {other.dtype}. Save "
            "all in one type."
        )
    if first.dtype != np.uint8 and data.channels == "rgb":
        raise DataError(
            f'{first.path} is a grey picture of type {first.dtype}: set data.channels = "grey", or save pictures of 8 '
            "bits."
        )
    return Form(size, data.resize, 3 if data.channels == "rgb" else 1, first.dtype)


def _listing(data: schema.Images, folder: Path, base: Path, table: str, classes: Sequence[str], part: str) -> Listing:
    if table:
        return list_table(table, data, folder, base, classes)
    if data.masks:
        masks = find_folder(data.masks, base)
        if masks is None:
            raise DataError(f"there is no folder {data.masks!r} of masks. Correct data.masks.")
        return list_masks(folder, masks / part if part and (masks / part).is_dir() else masks)
    return list_classes(folder, classes)


def _mask_form(data: schema.Images, form: Form, headers: Sequence[Header], listing: Listing) -> MaskForm:
    """Return what masks are brought to. DataError: a mask is none, or has another size than its picture."""
    deep = False
    for picture, path in zip(headers, listing.masks, strict=True):
        mask = read_header(path)
        check_mask(path, mask.mode)
        if mask.size != picture.size:
            raise DataError(
                f"{path} has {mask.size[0]} x {mask.size[1]} pixels, but its picture {picture.path} "
                f"{picture.size[0]} x {picture.size[1]}. Give masks of the size of their pictures."
            )
        deep = deep or mask.dtype != np.uint8
    dtype = np.dtype(np.int32 if deep else np.uint8)
    return MaskForm(form.size, form.way, dtype, tuple(data.mask_values))


def _notes(headers: Sequence[Header], listings: Sequence[Listing]) -> tuple[str, ...]:
    notes = []
    clear = sum(header.transparent for header in headers)
    if clear:
        verb = "has" if clear == 1 else "have"
        notes.append(f"alpha channels are left out: {clear} of {len(headers)} pictures {verb} one")
    others = [name for listing in listings for name in listing.left_out]
    if others:
        some = "1 file is left out, as no picture by its ending: " if len(others) == 1 else (
            f"{len(others)} files are left out, as no pictures by their endings, the first: "
        )  # fmt: skip
        notes.append(some + others[0])
    return tuple(notes)


class ImagesReader(Reader[schema.Images]):
    """Reads pictures."""

    section, endings, holds_targets = schema.Images, ENDINGS, False
    folders = True

    def read(self, data: schema.Images, base: Path) -> Source:
        """List the pictures and read their headers; they are decoded when they are taken."""
        check_source(data)
        folder = _folder(data.folder, base)
        train, held = (folder, None) if data.table else parts_of(folder)
        if held is not None and data.validation_fraction:
            raise JobError(
                f"data.validation_fraction = {data.validation_fraction:g}, but {held} holds validation pictures. Set "
                f"the fraction to 0, or data.folder to {str(train)!r}."
            )
        listings = [_listing(data, train, base, data.table, data.classes, train.name if train != folder else "")]
        if held is not None or data.validation_table:
            classes = listings[0].classes
            listings.append(_listing(data, held or folder, base, data.validation_table, classes, (held or folder).name))
        headers = [[read_header(path) for path in listing.pictures] for listing in listings]
        form = common_form([header for part in headers for header in part], data)
        parts: list[tuple[Rows, Rows]] = []
        for listing, own in zip(listings, headers, strict=True):
            y: Rows
            if listing.targets is None:
                y = DecodedRows(listing.masks, _mask_form(data, form, own, listing))
            else:
                y = ArrayRows(listing.targets)
            parts.append((DecodedRows(listing.pictures, form), y))
        notes = _notes([header for part in headers for header in part], listings)
        return Source(*parts[0], parts[1] if len(parts) > 1 else None, labels=listings[0].classes, notes=notes)

    def settings_for(self, path: str, columns: Columns | None) -> schema.Images:
        """Return settings for pictures, for a model that was trained on other data."""
        return schema.Images(folder=path)

    def read_inputs(self, path: Path, data: schema.Images, columns: Columns | None, features: int | None) -> Inputs:
        """Read a picture, or all that are in a folder and below it, in the order of their paths."""
        pictures = pictures_in(path)[0] if path.is_dir() else [path]
        if not pictures:
            raise DataError(f"{path} holds no pictures ({', '.join(ENDINGS)}).")
        return Inputs(DecodedRows(pictures, common_form([read_header(one) for one in pictures], data)))

    def pair_settings(self, path: str, data: schema.DataSection, base: Path) -> schema.Images | None:
        """Return settings for a folder, or a table, of a job whose own data are such: the part for validation first."""
        if not isinstance(data, schema.Images):
            return None
        whole: dict[str, Any] = {"validation_fraction": 0.0, "validation_table": ""}
        if data.masks and "," in path:
            pictures, _, masks = path.partition(",")
            return msgspec.structs.replace(data, folder=pictures.strip(), masks=masks.strip(), **whole)
        folder = find_folder(path, base)
        if folder is None:
            return msgspec.structs.replace(data, table=path, **whole) if data.table else None
        if data.table or data.masks:
            needed = "a table: give another table" if data.table else "masks: give both folders, as 'pictures,masks'"
            raise DataError(f"{path!r} is a folder, but the targets of the job are in {needed}.")
        train, held = parts_of(folder)
        return msgspec.structs.replace(data, folder=str(held or train), **whole)


def _folder(path: str, base: Path) -> Path:
    folder = find_folder(path, base)
    if folder is None:
        raise DataError(
            f"there is no folder {path!r}. Relative paths are looked for in the job file's folder, then in the working "
            "folder. Correct data.folder."
        )
    return folder
