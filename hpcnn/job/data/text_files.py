"""`[data]`: the characters of text files."""

from __future__ import annotations

from typing import Literal

from hpcnn.job.data.base import DataSection
from hpcnn.job.section import NonNegativeInt, PositiveInt, Text


class TextFiles(DataSection, frozen=True, kw_only=True, tag="text"):
    """The characters of text files, as integers: inputs are windows of them, targets the same one place later.

    With `validation_fraction` the end of the text is held out, not windows chosen at random.
    """

    path: Text
    """The file, UTF-8; a pattern with `*`, `?` or `[...]` takes all files that match, in order of their names."""
    length: PositiveInt = 64
    """Number of characters in a window."""
    stride: NonNegativeInt = 0
    """Distance of the starts of two windows; 0: `length`."""
    units: Literal["character", "byte"] = "character"
    """What is numbered: each distinct character, or each byte by its value, 0 to 255."""
    vocabulary: str = ""
    """`character`: the characters in the order of their numbers. Empty: those of the text, sorted by code point."""
