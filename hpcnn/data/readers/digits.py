"""Reader of the handwritten digits that come with hpcnn; `digits.md` gives their source."""

from __future__ import annotations

from pathlib import Path

from hpcnn.data.readers.npz import read_arrays
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import Array
from hpcnn.data.source import Source
from hpcnn.job import data as schema

PATH = Path(__file__).parents[1] / "digits.npz"


def load_digits() -> tuple[Array, Array]:
    """Return the handwritten digits: images, uint8 (1797, 8, 8) from 0 to 16, and labels, uint8 (1797,).

    >>> x, y = load_digits()
    >>> x.shape, y[:3].tolist()
    ((1797, 8, 8), [0, 1, 2])
    """
    x, y = read_arrays(PATH, "x", "y")
    return x.array.copy(), y.array.copy()


class DigitsReader(Reader[schema.Digits]):
    """Reads the digits."""

    section = schema.Digits

    def read(self, data: schema.Digits, base: Path) -> Source:
        """Read x, uint8 (1797, 8, 8) from 0 to 16, and y, uint8 (1797,) from 0 to 9."""
        x, y = read_arrays(PATH, "x", "y")
        return Source(x, y)
