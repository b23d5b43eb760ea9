"""Ids of embeddings: whole numbers that arrive as floats or integers."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from hpcnn.errors import DataError
from hpcnn.nn.workspace import Array, Workspace


def whole_ids(ctx: Workspace, owner: object, ids: Array, entries: int, title: str) -> Array:
    """Return the ids (rows,) as int64, in scratch.

    Raises:
        DataError: one is no whole number in [0, entries).
    """
    whole = ctx.scratch(owner, "ids", ids.shape, np.int64)
    with np.errstate(invalid="ignore"):  # NaN becomes some number, which does not equal it
        np.copyto(whole, ids, casting="unsafe")
    same = np.equal(whole, ids, out=ctx.scratch(owner, "same", ids.shape, np.bool_))
    if len(ids) and not (same.all() and whole.min() >= 0 and whole.max() < entries):
        _refuse(ids, entries, title)
    return whole


def _refuse(ids: Array, entries: int, title: str) -> NoReturn:
    with np.errstate(invalid="ignore"):
        wrong = ids[~((ids >= 0) & (ids < entries) & (np.floor(ids) == ids))]
    raise DataError(
        f"{title}: {wrong[0]!s} is no id: they must be whole numbers from 0 to {entries - 1}, one below input_dim. "
        "Raise input_dim, or correct the data; ids must not be scaled (data.scale)."
    )


def check_ids(ids: Array, entries: int, title: str) -> None:
    """Check ids of any shape.

    Raises:
        DataError: one is no whole number in [0, entries).
    """
    with np.errstate(invalid="ignore"):
        if ids.size and not (ids.min() >= 0 and ids.max() < entries and (np.floor(ids) == ids).all()):
            _refuse(ids, entries, title)
