"""Reader of the handwritten digits that come with hpcnn; `digits.md` beside the file says where they are from."""

from __future__ import annotations

from pathlib import Path

from hpcnn.data.readers.npz import read_arrays
from hpcnn.data.source import Source
from hpcnn.job import data as schema

PATH = Path(__file__).parents[1] / "digits.npz"


def read(_data: schema.Digits, _base: Path) -> Source:
    """Read `[data] source = "digits"`: x uint8 (1797, 8, 8) from 0 to 16, y uint8 (1797,) from 0 to 9."""
    x, y = read_arrays(PATH, "x", "y")
    return Source(x, y)
