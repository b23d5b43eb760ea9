"""Contrastive losses of scores between all samples of a batch."""

from __future__ import annotations

from hpcnn.nn.native.base import NativeBase
from hpcnn.nn.workspace import Array


class NativeContrast(NativeBase):
    """See `Arithmetic`."""

    def contrast(self, scores: Array, first: int, side: int, weight: float, logs: Array, terms: Array) -> None:
        """Take each row by itself."""
        self._do.contrast(scores, first, side, weight, logs, terms)

    def contrast_gradient(
        self, scores: Array, logs: Array, first: int, side: int, own_weight: float, other_weight: float
    ) -> Array:
        """Work in place."""
        self._do.contrast_gradient(scores, logs, first, side, own_weight, other_weight, scores)
        return scores
