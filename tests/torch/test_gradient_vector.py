"""The gradients of many ranks in one vector, as one of them sees it."""

from __future__ import annotations

import numpy as np

from hpcnn.comm.protocol import Compression
from hpcnn.comm.serial import SerialCommunicator
from tests.require import require

RANKS = 257
"""No sum of so many ones is a number of bfloat16."""


class LastOfMany(SerialCommunicator):
    """The last of many ranks, with its contribution and the sum of the others'."""

    rank, size = RANKS - 1, RANKS


def test_a_parameter_that_no_rank_uses_has_no_gradient_after_rounded_sums() -> None:
    """All ranks use the first parameter, and the second in the first step alone."""
    torch = require("torch")
    from hpcnn.torch.gradient_vector import GradientVector

    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    kind, compression = np.dtype(np.float32), Compression("bf16", 2)
    vector = GradientVector(parameters, kind, LastOfMany(), stats=1, bucket=0, compression=compression)
    found = []
    for used in ([True, True], [True, False], [True, False]):
        for parameter, uses in zip(parameters, used, strict=True):
            parameter.grad = torch.ones(1) if uses else None
        vector.begin()
        vector.complete(1.0)
        own, others = (contribution.vector for contribution in vector.exchange.contributions)
        others[:] = (RANKS - 1) * own
        others[: vector.starts[0]] = 0
        others[:2] = 256 * np.array(used)  # the count of the first ranks
        vector.exchange.allreduce()
        vector.give(1.0)
        found.append([None if parameter.grad is None else float(parameter.grad) for parameter in parameters])
    assert found == [[256, 256], [258, None], [256, None]]
