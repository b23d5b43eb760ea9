"""What one pass through a network needs beside its input: a workspace, its mode, and what computes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from hpcnn.nn.arithmetic import Arithmetic
from hpcnn.nn.matmul import Matmul
from hpcnn.nn.plain import NUMPY
from hpcnn.nn.workspace import Array, Workspace

NO_STATE: Mapping[str, Array] = MappingProxyType({})


class Context(Workspace):
    """The workspace, mode and arithmetic of one pass; one context serves one replica for its whole life.

    Threads may share a context: each begins with what the constructor was given.
    """

    def __init__(self, *, training: bool = False, matmul: Matmul = np.matmul, arithmetic: Arithmetic = NUMPY) -> None:
        super().__init__(matmul)
        self.training, self.arithmetic = training, arithmetic
        self.new_state = NO_STATE
        """Where a layer in training writes what this piece makes of each parameter that is state, under its full name.

        Arrays of float64 in the parameters' shapes. The parameters then get the mean over all samples of the batch.
        """

        self.among: tuple[int, int] | None = None
        """Place in the batch of the first sample of the pass, and how many samples the batch has; None: the pass has
        them all, or nothing asks."""

    def begin(
        self,
        *,
        training: bool,
        random_key: tuple[int, ...] = (0,),
        new_state: Mapping[str, Array] = NO_STATE,
        among: tuple[int, int] | None = None,
    ) -> None:
        """Start a pass over one piece of a batch. `random_key` alone decides every random number drawn in it."""
        self.training, self.new_state, self.among = training, new_state, among
        self._random_key = random_key
        self._generator = None
