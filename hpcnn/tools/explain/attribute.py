"""Explains samples one by one, distributed over the ranks, with the same bits on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hpcnn.comm.protocol import Communicator
from hpcnn.errors import DataError
from hpcnn.tools.explain.gradients import Attribution, InputGradient, chosen_target

Explain = Callable[[NDArray[np.float64], int], Attribution]
"""``(sample, target) -> attribution``."""


def attribute(
    comm: Communicator, gradient: InputGradient, x: NDArray[np.float64], target: int | None, explain: Explain
) -> list[Attribution]:
    """Return an attribution for each sample of `x`, in order, on rank 0; nothing elsewhere. Collective.

    Each sample is computed alone, so that its bits do not depend on other samples. Rank r computes every P-th sample
    from r on. `target` is the output to explain; None: each sample's predicted class.
    """
    own = []
    for sample in x[comm.rank :: comm.size]:
        found = explain(sample, chosen_target(gradient, sample, target))
        own.append(np.concatenate([[found.target, found.output, found.baseline_output], found.values.reshape(-1)]))
    size = 3 + int(np.prod(x.shape[1:]))
    parts = comm.gather_arrays(np.stack(own) if own else np.empty((0, size)))
    if parts is None:
        return []
    table = np.empty((len(x), size))
    for rank, part in enumerate(parts):
        table[rank :: comm.size] = part
    return [Attribution(int(row[0]), float(row[1]), float(row[2]), row[3:].reshape(x.shape[1:])) for row in table]


def check_target(target: int | None, outputs: int) -> None:
    """Check that the model has this output."""
    if target is not None and not 0 <= target < outputs:
        raise DataError(f"--target {target}: the model's outputs are 0 to {outputs - 1}")
