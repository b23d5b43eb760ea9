"""Which part of a picture becomes which pixels of a row, and resampling of those that Pillow can't resize exactly."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.rows import Array

Size = tuple[int, int]
"""(height, width)"""
Way = Literal["stretch", "crop", "pad"]


class Fit(NamedTuple):
    """How a picture fills a row."""

    box: tuple[float, float, float, float]
    """The part of the picture: top, left, bottom and right, in pixels."""
    size: Size
    """Of the part in the row."""
    place: Size
    """Of its first pixel in the row."""


def fit(picture: Size, row: Size, way: Way) -> Fit:
    """Return how a picture fills a row.

    >>> fit((10, 40), (10, 10), "crop")
    Fit(box=(0.0, 15.0, 10.0, 25.0), size=(10, 10), place=(0, 0))
    >>> fit((10, 40), (10, 10), "pad")
    Fit(box=(0.0, 0.0, 10.0, 40.0), size=(3, 10), place=(3, 0))
    """
    (height, width), (rows, columns) = picture, row
    wide = width * rows > height * columns
    if way == "crop":
        kept = (float(height), height * columns / rows) if wide else (width * rows / columns, float(width))
        top, left = (height - kept[0]) / 2, (width - kept[1]) / 2
        return Fit((top, left, top + kept[0], left + kept[1]), row, (0, 0))
    if way == "pad":
        size = (max(1, (2 * height * columns + width) // (2 * width)), columns) if wide else (
            rows, max(1, (2 * width * rows + height) // (2 * height))
        )  # fmt: skip
        place = (rows - size[0]) // 2, (columns - size[1]) // 2
        return Fit((0.0, 0.0, float(height), float(width)), size, place)
    return Fit((0.0, 0.0, float(height), float(width)), row, (0, 0))


def padded(part: Array, how: Fit, row: Size) -> Array:
    """Return the part of a row, (height, width, ...), with zeros around it."""
    if how.size == row:
        return part
    whole = np.zeros((*row, *part.shape[2:]), part.dtype)
    whole[tuple(slice(start, start + n) for start, n in zip(how.place, how.size, strict=True))] = part
    return whole


def nearest(picture: Array, how: Fit) -> Array:
    """Return the part of a picture, (height, width), by the nearest pixels."""
    rows, columns = (
        np.clip(np.floor(start + (np.arange(n) + 0.5) * ((stop - start) / n)).astype(np.int64), 0, limit - 1)
        for start, stop, n, limit in zip(how.box[:2], how.box[2:], how.size, picture.shape, strict=True)
    )
    return np.asarray(picture[np.ix_(rows, columns)])


def resampled(picture: Array, how: Fit) -> NDArray[np.float64]:
    """Return the part of a picture, (height, width), each pixel a mean of those near it, weighted by a triangle.

    That is Pillow's bilinear filter, in float64, with terms that are added in the order of the pixels.
    """
    values = np.asarray(picture, np.float64)
    for axis in (0, 1):
        index, weights = _taps(values.shape[0], how.box[axis], how.box[axis + 2], how.size[axis])
        out = np.zeros((how.size[axis], values.shape[1]))
        for place, weight in zip(index.T, weights.T, strict=True):
            out += values[place] * weight[:, np.newaxis]
        values = np.ascontiguousarray(out.T)
    return values


def _taps(limit: int, start: float, stop: float, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return for each of n pixels the places in an axis that it is a mean of, and their weights, (n, taps)."""
    step = (stop - start) / n
    reach = max(1.0, step)
    centre = (start + (np.arange(n) + 0.5) * step)[:, np.newaxis]
    index = np.floor(centre - reach + 0.5) + np.arange(math.ceil(2 * reach) + 2)
    weights = np.maximum(0.0, 1 - np.abs((index - centre + 0.5) / reach))
    weights[(index < 0) | (index >= limit)] = 0
    total = np.zeros((n, 1))
    for column in weights.T:
        total[:, 0] += column
    return np.clip(index, 0, limit - 1).astype(np.int64), weights / total
