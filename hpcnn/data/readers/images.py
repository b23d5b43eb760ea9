"""Reader of pictures in folders, of a class each, listed in a table, or with masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hpcnn.data.columns import Columns
from hpcnn.data.readers.decoded_rows import DecodedRows
from hpcnn.data.readers.image_files import ENDINGS, Header, read_header
from hpcnn.data.readers.image_folders import Listing, list_classes, list_masks, list_table, parts_of, pictures_in
from hpcnn.data.readers.image_forms import alpha_notes, common_form, mask_form
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Rows
from hpcnn.data.source import Inputs, Source, find_folder
from hpcnn.errors import DataError, JobError
from hpcnn.job import data as schema
from hpcnn.job.data_checks import check_source


def _listing(data: schema.Images, folder: Path, base: Path, table: str, part: str) -> Listing:
    if table:
        return list_table(table, data, folder, base)
    if data.masks:
        masks = find_folder(data.masks, base)
        if masks is None:
            raise DataError(f"there is no folder {data.masks!r} of masks. Correct data.masks.")
        return list_masks(folder, masks / part if part and (masks / part).is_dir() else masks)
    return list_classes(folder, data.classes)


def _notes(headers: Sequence[Header], listings: Sequence[Listing]) -> tuple[str, ...]:
    others = [name for listing in listings for name in listing.left_out]
    if not others:
        return alpha_notes(headers)
    some = "1 file is left out, as no picture by its ending: " if len(others) == 1 else (
        f"{len(others)} files are left out, as no pictures by their endings, the first: "
    )  # fmt: skip
    return (*alpha_notes(headers), some + others[0])


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
        listings = [_listing(data, train, base, data.table, train.name if train != folder else "")]
        if held is not None or data.validation_table:
            listings.append(_listing(data, held or folder, base, data.validation_table, (held or folder).name))
        headers = [[read_header(path) for path in listing.pictures] for listing in listings]
        form = common_form([header for part in headers for header in part], data)
        parts: list[tuple[Rows, Rows]] = []
        for listing, own in zip(listings, headers, strict=True):
            y: Rows
            if listing.targets is None:
                y = DecodedRows(listing.masks, mask_form(data, form, own, listing.masks))
            else:
                y = listing.targets
            parts.append((DecodedRows(listing.pictures, form), y))
        notes = _notes([header for part in headers for header in part], listings)
        held_out, held_weights = (parts[1], listings[1].weights) if len(parts) > 1 else (None, None)
        return Source(*parts[0], held_out, weights=listings[0].weights, validation_weights=held_weights, notes=notes)

    def settings_for(self, path: str, columns: Columns | None) -> schema.Images:
        """Return settings for pictures, for a model that was trained on other data."""
        return schema.Images(folder=path)

    def read_inputs(self, path: Path, data: schema.Images, columns: Columns | None, features: int | None) -> Inputs:
        """Read a picture, or all that are in a folder and below it, in the order of their paths."""
        pictures = pictures_in(path)[0] if path.is_dir() else [path]
        if not pictures:
            raise DataError(f"{path} holds no pictures ({', '.join(ENDINGS)}).")
        folder = path if path.is_dir() else path.parent
        files = tuple(one.relative_to(folder).as_posix() for one in pictures)
        return Inputs(DecodedRows(pictures, common_form([read_header(one) for one in pictures], data)), files=files)

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
