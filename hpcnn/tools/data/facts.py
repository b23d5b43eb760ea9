"""What there is to say about the data of a job, for text, page and JSON alike."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["error", "warning", "note"]
TRAINING, VALIDATION = "training", "validation"


class ColumnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One column of the training data, or all entries of arrays that are no tables. Of dates, numbers are seconds."""

    name: str
    kind: str
    missing: int = 0
    infinite: int = 0
    low: float | None = None
    mean: float | None = None
    high: float | None = None
    deviation: float | None = None
    distinct: int | None = None
    """Of words: how many there are."""
    words: dict[str, int] = {}
    """The most frequent words, with their counts."""


class PartFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The training data, or the validation data."""

    name: str
    samples: int
    looked_at: int
    """How many of them the figures are of."""


class ClassFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A class, and how often targets name it."""

    name: str
    training: int
    validation: int | None = None


class Finding(msgspec.Struct, frozen=True):
    """Something that ends a training (error), spoils it (warning), or is good to know (note)."""

    level: Level
    text: str


class DataFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown of the data of a job."""

    job: str
    source: str
    x_shape: tuple[int, ...]
    """Of the inputs of one sample, as they are stored."""
    x_type: str
    y_shape: tuple[int, ...]
    y_type: str
    parts: list[PartFacts]
    inputs: list[ColumnFacts]
    """Of the training data, as they are stored."""
    targets: list[ColumnFacts]
    classes: list[ClassFacts] = []
    vocabulary: int | None = None
    """Different characters of a text."""
    network_shape: tuple[int, ...] | None = None
    """Of what the network gets for one sample; None if the data can't be prepared for it."""
    network_range: tuple[float, float] | None = None
    head: list[str] = []
    rows: list[list[str]] = []
    """A few samples of the training data, under `head`."""
    findings: list[Finding] = []

    @property
    def sampled(self) -> bool:
        """Whether some samples were not looked at."""
        return any(part.looked_at < part.samples for part in self.parts)
