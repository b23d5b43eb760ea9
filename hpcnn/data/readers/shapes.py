"""Synthetic images to segment: circles, squares and triangles over noise, computed row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpcnn.data.random_numbers import CounterHash
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array, Buffer, ComputedRows
from hpcnn.data.sampler import Indices
from hpcnn.data.source import Source
from hpcnn.job import data as schema

CLASSES = 4
"""Classes of a pixel."""
BACKGROUND, CIRCLE, SQUARE, TRIANGLE = range(CLASSES)
KIND, ROW, COLUMN, RADIUS, BRIGHTNESS, NOISE = range(6)
"""Independent random streams, one for each use."""


@dataclass(frozen=True)
class Shape:
    """A shape in an image, with the box of pixels around it. Lengths are in pixels."""

    number: int
    kind: int
    row: float
    column: float
    radius: float
    box: tuple[slice, slice]

    def mask(self) -> NDArray[np.bool_]:
        """Return which pixels of the box lie in the shape. Only sums, products and comparisons."""
        dy, dx = (np.arange(side.start, side.stop) - centre
                  for side, centre in zip(self.box, (self.row, self.column), strict=True))  # fmt: skip
        dy = dy[:, None]
        if self.kind == CIRCLE:
            return np.asarray(dy * dy + dx * dx <= self.radius * self.radius)
        width, height = np.abs(dx), np.abs(dy)
        if self.kind == SQUARE:
            return np.asarray((width <= 0.875 * self.radius) & (height <= 0.875 * self.radius))
        return np.asarray((2 * width <= dy + self.radius) & (dy <= self.radius))


class ShapeLists:
    """Draws the shapes of images: kind, place and size, pure functions of the seed and the number of the image."""

    def __init__(self, data: schema.Shapes) -> None:
        self.size, self.shapes = data.size, data.shapes
        self._kinds = CounterHash(data.seed, KIND, data.shapes)
        self._uniform = [CounterHash(data.seed, stream, data.shapes) for stream in (ROW, COLUMN, RADIUS)]
        self._drawn = [Buffer((data.shapes,), np.float64) for _ in self._uniform]

    def draw(self, rows: Indices) -> Iterator[list[Shape]]:
        """Yield the shapes of each of these images."""
        kinds = (self._kinds.bits(rows) % np.uint64(CLASSES - 1) + np.uint64(1)).tolist()
        drawn = [hashed.uniform(rows, buffer.rows(len(rows))).tolist()
                 for hashed, buffer in zip(self._uniform, self._drawn, strict=True)]  # fmt: skip
        for kind, *uniform in zip(kinds, *drawn, strict=True):
            yield [self._shape(*one) for one in zip(range(self.shapes), kind, *uniform, strict=True)]

    def _shape(self, number: int, kind: int, row: float, column: float, radius: float) -> Shape:
        row, column, radius = row * (self.size - 1), column * (self.size - 1), self.size * (1 + radius) / 8

        def side(centre: float) -> slice:
            return slice(max(0, int(centre - radius)), min(self.size, int(centre + radius) + 1))

        return Shape(number, kind, row, column, radius, (side(row), side(column)))


class ShapeClasses(ComputedRows):
    """The class of each pixel."""

    def __init__(self, data: schema.Shapes) -> None:
        super().__init__((data.samples, data.size, data.size), np.uint8)
        self._shapes = ShapeLists(data)

    def _fill(self, rows: Indices, values: Array) -> None:
        values.fill(BACKGROUND)
        for image, shapes in zip(values, self._shapes.draw(rows), strict=True):
            for shape in shapes:
                image[shape.box][shape.mask()] = shape.kind


class ShapeImages(ComputedRows):
    """The images: the brightness of the last shape on a pixel in each channel, plus noise."""

    def __init__(self, data: schema.Shapes) -> None:
        super().__init__((data.samples, data.size, data.size, data.channels))
        pixels, self._noise, self._channels = data.size * data.size * data.channels, data.noise, data.channels
        self._hash, self._shapes = CounterHash(data.seed, NOISE, pixels), ShapeLists(data)
        self._brightness = CounterHash(data.seed, BRIGHTNESS, data.shapes * data.channels)
        self._drawn = Buffer((data.shapes * data.channels,), np.float64)
        self._canvas = np.empty((data.size, data.size, data.channels))

    def _fill(self, rows: Indices, values: Array) -> None:
        self._hash.uniform(rows, values.reshape(len(rows), -1))
        np.multiply(values, self._noise, out=values)
        drawn = self._brightness.uniform(rows, self._drawn.rows(len(rows)))
        np.multiply(drawn, 0.5, out=drawn)
        np.add(drawn, 0.5, out=drawn)
        colours, canvas = drawn.reshape(len(rows), -1, self._channels), self._canvas
        for image, shapes, colour in zip(values, self._shapes.draw(rows), colours, strict=True):
            canvas.fill(0)
            for shape in shapes:
                canvas[shape.box][shape.mask()] = colour[shape.number]
            np.add(image, canvas, out=image)


class ShapesReader(Reader[schema.Shapes]):
    """Computes images of shapes and the classes of their pixels."""

    section = schema.Shapes

    def read(self, data: schema.Shapes, base: Path) -> Source:
        """Return rows that are computed when they are taken."""
        return Source(ShapeImages(data), ShapeClasses(data), computed=True)
