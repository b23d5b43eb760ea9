"""Contrastive losses of scores between all samples of a batch."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.workspace import Array

_ROWS = 64
"""How many are done at a time, so that temporaries stay small."""


class PlainContrast:
    """See `Arithmetic`."""

    def contrast(self, scores: Array, first: int, side: int, weight: float, logs: Array, terms: Array) -> None:
        """Take some rows at a time."""
        if side == 0:
            terms.fill(0)
        for start in range(0, len(scores), _ROWS):
            rows = scores[start : start + _ROWS].astype(np.float64)
            n = np.arange(len(rows))
            largest = rows.max(axis=1)
            own = rows[n, first + start + n]
            rows -= largest[:, np.newaxis]
            log = largest + np.log(np.exp(rows, out=rows).sum(axis=1))
            logs[start + n, side] = log
            terms[start + n] += weight * (log - own)

    def contrast_gradient(
        self, scores: Array, logs: Array, first: int, side: int, own_weight: float, other_weight: float
    ) -> Array:
        """Take some rows at a time."""
        for start in range(0, len(scores), _ROWS):
            rows = scores[start : start + _ROWS]
            n = np.arange(len(rows))
            own = first + start + n
            gradient = own_weight * np.exp(rows - logs[own, side][:, np.newaxis])
            if other_weight:
                gradient += other_weight * np.exp(rows - logs[:, 1 - side])
            gradient[n, own] -= own_weight + other_weight
            rows[...] = gradient
        return scores
