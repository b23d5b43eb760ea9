"""What the models of both modes share: parameters in one flat vector, with names, penalties and a fingerprint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.nn.context import Context
from hpcnn.nn.params import ParamLayout
from hpcnn.training.penalty import penalty
from hpcnn.training.step_stats import Sums, SumsLayout


class VectorModel(ABC):
    """Base of an `EvaluableModel` whose parameters are one vector.

    Args:
        params: where each parameter lies in the vector.
        layout: the sums to keep, with the metrics.
        vector: the parameters.
    """

    def __init__(self, params: ParamLayout, layout: SumsLayout, vector: Array) -> None:
        self.layout, self.vector = layout, vector
        self._param_layout = params
        self._params = params.views(vector)
        self._memory = Context()

    @abstractmethod
    def use_threads(self, threads: int) -> None:
        """Compute on so many threads from now on, if that leaves the bits as they are."""

    @abstractmethod
    def eval_piece(self, x: Array, y: Array) -> Sums:
        """Return the sums over one piece of samples; see `EvaluableModel`."""

    @abstractmethod
    def predict_piece(self, x: Array) -> Array:
        """Return the outputs for `x`; see `EvaluableModel`."""

    @np.errstate(all="ignore")  # what is not finite shows in the values
    def penalty(self) -> float:
        """Return the sum of the L1 and L2 penalties of the weights as they are."""
        longest = max((spec.size for spec in self._param_layout.penalized), default=0)
        spare = self._memory.scratch("penalties", "spare", (longest,), self.vector.dtype)
        return penalty(self._param_layout, self._params, spare)

    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        return self._param_layout.state_dict(self.vector)

    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters."""
        self._param_layout.load_state_dict(self.vector, weights)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights."""
        return self._param_layout.fingerprint(self.vector)
