"""Random changes of images, by sums, products, comparisons and rounding alone: the bits are those of any processor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.random_numbers import CounterHash, cosines
from hpcnn.data.rows import Array, Buffer
from hpcnn.data.sampler import Indices
from hpcnn.job.augment import Augment

CHANGE_STREAM, MIX_STREAM = 7, 8
"""Random streams of the changes, and of the shares in mixtures."""
FLIP_ROWS, FLIP_COLUMNS, CROP, SHIFT, TURN, CONTRAST, BRIGHTNESS, CUTOUT, PARTNER = 0, 1, 2, 4, 6, 7, 8, 9, 11
"""Columns of the random numbers, one or two for each use. All are drawn, so that none depends on other settings."""
WIDTH = 12
Uniform = NDArray[np.float64]
"""Random numbers from [0, 1), the last axis WIDTH."""


@dataclass(frozen=True)
class Placement:
    """Where the pixels of an image come from: mirrored, then moved by whole pixels, then turned and moved."""

    flip: tuple[bool, bool]
    """Whether rows and columns are mirrored."""
    offset: tuple[int, int]
    """The row and column that come to (0, 0)."""
    turn: tuple[float, float] | None = None
    """Sine and cosine of the angle; None: it is neither turned nor moved by parts of pixels."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Rows and columns that it is moved by after that."""

    def crop(self, image: Array, out: Array, fill: float = 0) -> None:
        """Write the mirrored and moved image, (height, width, ...), to `out`, with `fill` for what is outside."""
        if any(self.flip):
            image = image[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1]
        if not any(self.offset):
            np.copyto(out, image)
            return
        out.fill(fill)
        to, source = zip(*(_overlap(d, n) for d, n in zip(self.offset, image.shape, strict=False)), strict=True)
        out[to] = image[source]

    def sources(self, size: tuple[int, int]) -> tuple[Array, Array]:
        """Return row and column in the image that each pixel comes from, float64 (height, width)."""
        assert self.turn is not None
        sine, cosine = self.turn
        middle = [(n - 1) / 2 for n in size]
        rows = (np.arange(size[0]) - middle[0] - self.shift[0])[:, np.newaxis]
        columns = np.arange(size[1]) - middle[1] - self.shift[1]
        return (rows * cosine - columns * sine) + middle[0], (rows * sine + columns * cosine) + middle[1]


def _overlap(offset: int, n: int) -> tuple[slice, slice]:
    """Return the places in n that have a source, and those sources, where place 0 has the source `offset`."""
    return slice(max(0, -offset), min(n, n - offset)), slice(max(0, offset), min(n, n + offset))


def bilinear(image: Array, placement: Placement) -> Array:
    """Return an image, float64 (height, width, channels), at the sources of its pixels; 0 outside."""
    height, width, channels = image.shape
    padded = np.zeros((height + 4, width + 4, channels))
    padded[2:-2, 2:-2] = image
    (row, row_part), (column, column_part) = (
        _neighbours(source, n) for source, n in zip(placement.sources((height, width)), (height, width), strict=True)
    )
    pixels, place = padded.reshape(-1, channels), row * (width + 4) + column
    above, below = (
        pixels.take(first, 0) * (1 - column_part) + pixels.take(first + 1, 0) * column_part
        for first in (place, place + (width + 4))
    )
    moved: Array = above * (1 - row_part) + below * row_part
    return moved


def _neighbours(source: Array, n: int) -> tuple[NDArray[np.int64], Array]:
    """Return the place below each source, from 0 in an axis of n padded by two on each side, and the rest."""
    floor = np.floor(source)
    return np.clip(floor, -2, n).astype(np.int64) + 2, (source - floor)[:, :, np.newaxis]


def nearest(image: Array, placement: Placement, fill: float) -> Array:
    """Return an image (height, width, ...) at the pixels nearest to the sources of its pixels; `fill` outside."""
    size = image.shape[0], image.shape[1]
    padded = np.full((size[0] + 2, size[1] + 2, *image.shape[2:]), fill, image.dtype)
    padded[1:-1, 1:-1] = image
    places = (np.clip(np.rint(source).astype(np.int64) + 1, 0, n + 1)
              for source, n in zip(placement.sources(size), size, strict=True))  # fmt: skip
    return np.asarray(padded[tuple(places)])


class Draws:
    """The random numbers of the changes: pure functions of (seed, epoch, number of the sample)."""

    def __init__(self, settings: Augment, size: tuple[int, int], samples: int, seed: int) -> None:
        self.settings, self.size, self.samples = settings, size, samples
        self._seed, self._epoch = seed, 0
        self._uniform = Buffer((WIDTH,), np.float64)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw for that epoch from now on."""
        self._epoch = epoch
        self._hash = CounterHash(self._seed, CHANGE_STREAM, WIDTH, epoch)

    def uniform(self, samples: Indices) -> Uniform:
        """Return numbers from [0, 1), shape (k, WIDTH), valid until the next call."""
        return self._hash.uniform(samples, self._uniform.rows(len(samples)))

    def placements(self, uniform: Uniform) -> list[Placement]:
        """Return where the pixels come from, in each sample."""
        settings, padding = self.settings, self.settings.crop_padding
        flips = uniform[:, FLIP_ROWS : FLIP_COLUMNS + 1] < 0.5
        flips &= (settings.flip in ("vertical", "both"), settings.flip in ("horizontal", "both"))
        offsets = np.floor(uniform[:, CROP : CROP + 2] * (2 * padding + 1)).astype(np.int64) - padding
        whole = zip(map(tuple, flips.tolist()), map(tuple, offsets.tolist()), strict=True)
        if not (settings.rotate or settings.shift):
            return [Placement(flip, offset) for flip, offset in whole]
        turns = (2 * uniform[:, TURN] - 1) * (settings.rotate / 360)
        sines, cosine = (cosines(angle % 1.0, np.empty_like(angle), np.empty_like(angle)).tolist()
                         for angle in (turns - 0.25, turns))  # fmt: skip
        shifts = (2 * uniform[:, SHIFT : SHIFT + 2] - 1) * (settings.shift * np.array(self.size))
        parts = zip(zip(sines, cosine, strict=True), map(tuple, shifts.tolist()), strict=True)
        return [Placement(*one, *other) for one, other in zip(whole, parts, strict=True)]

    def partners(self, samples: Indices) -> Indices:
        """Return the sample that each is mixed with."""
        return np.asarray(np.floor(self.uniform(samples)[:, PARTNER] * self.samples), np.int64)

    def shares(self, samples: Indices) -> NDArray[np.float64]:
        """Return the share of each sample in its mixture, shape (k,): Beta(mixup, mixup), by Jöhnk (1964)."""
        from hpcnn.kernels import core

        found, left, attempt = np.empty(len(samples)), np.arange(len(samples)), 0
        power = 1 / self.settings.mixup
        while len(left):
            drawn = np.empty((len(left), 2))
            CounterHash(self._seed, MIX_STREAM, 2, self._epoch, attempt).uniform(samples[left], drawn)
            powers = np.array([core.pow(1 - value, power) for value in drawn.reshape(-1).tolist()]).reshape(-1, 2)
            totals = powers[:, 0] + powers[:, 1]
            taken = (totals <= 1) & (totals > 0)
            found[left[taken]] = powers[taken, 0] / totals[taken]
            left, attempt = left[~taken], attempt + 1
        return found


def change_values(image: NDArray[Any], uniform: Uniform, settings: Augment) -> None:
    """Change contrast and brightness of an image in place; `uniform` are the random numbers of its sample."""
    if settings.contrast:
        mean = np.cumsum(image.reshape(-1), dtype=np.float64)[-1] / image.size  # one after the other, on any processor
        factor = 1 + settings.contrast * (2 * uniform[CONTRAST] - 1)
        np.subtract(image, mean, out=image)
        np.multiply(image, factor, out=image)
        np.add(image, mean, out=image)
    if settings.brightness:
        np.add(image, settings.brightness * (2 * uniform[BRIGHTNESS] - 1), out=image)


def cut_out(image: Array, uniform: Uniform, side: int) -> None:
    """Set a square of an image to 0."""
    centre = np.floor(uniform[CUTOUT : CUTOUT + 2] * image.shape[:2]).astype(np.int64).tolist()
    place = tuple(slice(max(0, c - side // 2), max(0, c - side // 2 + side)) for c in centre)
    image[place] = 0
