"""A sound sample of a kind of files, the values that all of them hold, and how arrays and text are written."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnn.job import data as schema

ROWS, COLUMNS, CLASSES = 24, 4, 3
X = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
Y = np.arange(ROWS) % CLASSES
IDX_CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


@dataclass(frozen=True)
class Sample:
    """Files that belong together, by name; the one called `target` is to be damaged."""

    files: dict[str, bytes]
    target: str
    section: schema.DataSection | None = None
    """How a job reads them; None where they are no data."""
    read: str = ""
    """What is read, where that is the folder of the target."""

    @property
    def content(self) -> bytes:
        return self.files[self.target]


def npy_bytes(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


def npz_bytes(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def csv_bytes(header: str = "a,b,c,d,label", delimiter: str = ",", newline: str = "\n") -> bytes:
    rows = [[f"{value:.7g}" for value in row] + [str(label)] for row, label in zip(X.tolist(), Y, strict=True)]
    lines = [*([header] if header else []), *(delimiter.join(row) for row in rows), ""]
    return newline.join(lines).encode()
