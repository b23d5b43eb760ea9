"""Rows that are decoded from a file each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpcnn.data.readers.tar_members import Member
from hpcnn.data.rows import Array
from hpcnn.data.sampler import Indices
from hpcnn.errors import DataError

File = Path | Member


class Decoder(Protocol):
    """What becomes of a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""
        ...

    def decode(self, file: File) -> Array:
        """Return the row. DataError: the file is damaged, or another one than at the start."""
        ...


class DecodedRows:
    """Rows that are decoded from a file each whenever they are taken."""

    chunk_rows = 1
    """Rows that are decoded together."""
    portable = True
    """See `hpcnn.training.read_once`."""

    def __init__(self, files: Sequence[File], decoder: Decoder) -> None:
        self._files, self._decode = files, decoder.decode
        self.shape, self.dtype = (len(files), *decoder.shape), decoder.dtype

    def take(self, indices: Indices, out: Array) -> None:
        """Write rows into `out`; see `Rows.take`."""
        for place, index in enumerate(indices.tolist()):
            file = self._files[index]
            row = self._decode(file)
            if row.shape != self.shape[1:]:
                raise changed(file, f"shape {row.shape}")
            np.copyto(out[place : place + 1], row, casting="unsafe")


def changed(file: File, what: str) -> DataError:
    """Return the error for a file that holds something else than its header said at the start."""
    return DataError(
        f"{file} has {what} now, other than when the run began: the file changed, or its header is wrong. Put it back "
        "as it was, or correct it."
    )
