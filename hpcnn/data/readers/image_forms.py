"""What pictures and masks are brought to, by their headers and the settings of a job."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcnn.data.readers.decoded_rows import File
from hpcnn.data.readers.image_files import Form, Header, MaskForm, check_mask, read_header
from hpcnn.errors import DataError
from hpcnn.job import data as schema


def common_form(headers: Sequence[Header], data: schema.PictureSection) -> Form:
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


def mask_form(data: schema.PictureSection, form: Form, pictures: Sequence[Header], masks: Sequence[File]) -> MaskForm:
    """Return what masks are brought to. DataError: a mask is none, or has another size than its picture."""
    deep = False
    for picture, path in zip(pictures, masks, strict=True):
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


def alpha_notes(headers: Sequence[Header]) -> tuple[str, ...]:
    """Return a warning where pictures have an alpha channel."""
    clear = sum(header.transparent for header in headers)
    if not clear:
        return ()
    verb = "has" if clear == 1 else "have"
    return (f"alpha channels are left out: {clear} of {len(headers)} pictures {verb} one",)
