"""Pictures in files: their headers, and their pixels as rows of one size and type. Pillow decodes them."""

from __future__ import annotations

import functools
import io
import logging
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hpcnn.data.readers.decoded_rows import File, changed
from hpcnn.data.readers.image_sizes import Fit, Size, Way, fit, nearest, padded, resampled
from hpcnn.data.rows import Array
from hpcnn.data.source import optional_import, unread
from hpcnn.errors import DataError
from hpcnn.job.data import PICTURE_ENDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDINGS = tuple(f".{ending}" for ending in PICTURE_ENDINGS)
"""What the names of pictures end in, in small or capital letters."""
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")
DEEP = {"I;16": "uint16", "I;16L": "uint16", "I;16B": "uint16", "I;16N": "uint16", "I": "int32", "F": "float32"}
"""Pillow's names of grey pictures of more than 8 bits, and the types of their rows."""
MOST_PIXELS = 2**26
"""A small file can declare any number."""
ORIENTATION = 0x0112
"""Tag of EXIF and TIFF: 5 to 8 say that rows and columns are swapped."""
MASK_MODES = ("1", "L", "P", "I;16", "I;16L", "I;16B", "I;16N", "I")


@dataclass(frozen=True)
class Header:
    """What the header of a picture says."""

    path: File
    size: Size
    """As it is to be seen: turned as its orientation says."""
    mode: str
    """Pillow's name for the type of its pixels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its rows."""
        return np.dtype(DEEP.get(self.mode, "uint8"))

    @property
    def transparent(self) -> bool:
        """Whether it has an alpha channel."""
        return self.mode in ("RGBA", "LA", "PA", "RGBa", "La")


@functools.cache
def _pillow() -> tuple[Any, Any]:
    """Return Pillow's modules Image and ImageOps, which print nothing."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its errors go to stderr, beside our message
    names = ("PIL.Image", "PIL.ImageOps")
    image, operations = (optional_import(name, "images", "reading pictures", "pillow") for name in names)
    return image, operations


@contextmanager
def opened(path: File, *, whole: bool = True) -> Iterator[Any]:
    """Open a picture, from memory where the `whole` file is needed. DataError: it can't be read, now or in the block.

    Of a file, Pillow reads as many bytes as a part of it declares, however many that are.
    """
    image = _pillow()[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are refused here
            stream = io.BytesIO(path.read_bytes()) if whole else path.open("rb")
            with stream, image.open(stream, formats=FORMATS) as file:
                _check_pixels(path, file.width * file.height)
                yield file
    except DataError:
        raise
    except image.DecompressionBombError:
        _check_pixels(path)
    except image.UnidentifiedImageError:
        raise unread(path, "it is no PNG, JPEG, TIFF, BMP, WebP or GIF") from None
    except Exception as error:  # decoders raise errors of every kind for files that are damaged
        raise unread(path, getattr(error, "strerror", None) or str(error) or type(error).__name__) from None


def _check_pixels(path: File, pixels: int = MOST_PIXELS + 1) -> None:
    if pixels > MOST_PIXELS:
        raise DataError(
            f"{path} declares more than the {MOST_PIXELS:,} pixels that a picture may have. Is it one? Cut it into "
            "parts."
        ) from None


def read_header(path: File) -> Header:
    """Return what the header of a picture says. DataError: it is none, or damaged."""
    with opened(path, whole=False) as file:
        width, height = file.size
        known = file.format not in ("TIFF", "PNG") or (file.format == "PNG" and "exif" in file.info)
        # Pillow has turned the size of a TIFF already; for the EXIF data at the end of a PNG it would decode all of it.
        swapped = known and file.getexif().get(ORIENTATION) in (5, 6, 7, 8)
        return Header(path, (width, height) if swapped else (height, width), file.mode)


@dataclass(frozen=True)
class Form:
    """What pictures are brought to."""

    size: Size
    way: Way
    channels: int
    """1 or 3."""
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a row."""
        return (*self.size, self.channels)

    def decode(self, path: File) -> Array:
        """Return the pixels of a picture. DataError: it is damaged, or another one than at the start."""
        with opened(path) as file:
            deep = file.mode in DEEP
            if (np.dtype(DEEP[file.mode]) if deep else np.dtype(np.uint8)) != self.dtype:
                raise changed(path, f"pixels of type {file.mode}")
            picture = _loaded(file)
            how = fit((picture.height, picture.width), self.size, self.way)
            if deep:
                values = np.asarray(picture)
                part = values if _is_whole(how, values.shape) else _rounded(resampled(values, how), self.dtype)
            else:
                mode = "L" if self.channels == 1 else "RGB"
                picture = picture if picture.mode == mode else picture.convert(mode)
                part = np.asarray(
                    picture if _is_whole(how, (picture.height, picture.width)) else _resized(picture, how)
                )
            return padded(part.reshape(*how.size, self.channels), how, self.size)


@dataclass(frozen=True)
class MaskForm:
    """What masks are brought to."""

    size: Size
    way: Way
    dtype: np.dtype[Any]
    values: tuple[int, ...]
    """The value of each class; empty: the values are the classes."""

    @property
    def shape(self) -> Size:
        """The shape of a row."""
        return self.size

    def decode(self, path: File) -> Array:
        """Return the class of each pixel. DataError: the mask is damaged, or has other values."""
        with opened(path) as file:
            check_mask(path, file.mode)
            values = np.asarray(_loaded(file))
        how = fit((values.shape[0], values.shape[1]), self.size, self.way)
        return padded(nearest(self._classes(path, values), how).astype(self.dtype), how, self.size)

    def _classes(self, path: File, values: Array) -> Array:
        if not self.values:
            return values
        order = np.argsort(self.values)
        known = np.asarray(self.values)[order]
        places = np.clip(np.searchsorted(known, values), 0, len(known) - 1)
        unknown = values[known[places] != values]
        if len(unknown):
            raise DataError(
                f"{path} has pixels of value {int(unknown[0])}, which is not in data.mask_values = "
                f"{list(self.values)}. Add it, or correct the mask."
            )
        return order[places]


def check_mask(path: File, mode: str) -> None:
    """Raise DataError unless a picture of that type can be a mask."""
    if mode not in MASK_MODES:
        raise DataError(
            f"{path} has pixels of type {mode}, but a mask has one number for each pixel, its class: save it as a grey "
            "picture, or one with a palette."
        )


def _loaded(file: Any) -> Any:
    """Return a picture, decoded and turned as its orientation says."""
    file.load()
    _pillow()[1].exif_transpose(file, in_place=True)
    return file


def _is_whole(how: Fit, size: tuple[int, ...]) -> bool:
    return how.size == size and how.box == (0, 0, *size)


def _resized(picture: Any, how: Fit) -> Any:
    top, left, bottom, right = how.box
    box = (left, top, min(right, picture.width), min(bottom, picture.height))
    return picture.resize((how.size[1], how.size[0]), _pillow()[0].Resampling.BILINEAR, box=box)


def _rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    return (np.rint(values) if dtype.kind in "iu" else values).astype(dtype)
