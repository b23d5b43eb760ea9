"""What all sides train on: the same networks, batch and data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NETWORKS = {
    "784-32-10": (784, 32, 10),
    "784-512-512-10": (784, 512, 512, 10),
    "784-2048-2048-10": (784, 2048, 2048, 10),
}
"""Widths from the input to the output; relu between them, softmax and cross-entropy at the end."""

BATCH = 128
"""Samples per step and rank."""

SAMPLES = 8192


def make_data(widths: tuple[int, ...], samples: int = SAMPLES) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return random inputs and labels."""
    random = np.random.default_rng(0)
    return random.random((samples, widths[0]), dtype=np.float32), random.integers(0, widths[-1], samples)
