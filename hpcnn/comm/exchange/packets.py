"""What travels in one message: the stats first, then the sums of subtrees, then a flag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcnn.comm.protocol import Array
from hpcnn.system.memory import aligned_empty


class Packet:
    """A buffer for one message.

    Args:
        size: entries of each vector.
        kinds: the types of the vectors.
        stats: entries of the stats, float64.
        flag: whether there is a flag.
    """

    def __init__(self, size: int, kinds: Sequence[np.dtype[Any]], stats: int = 0, *, flag: bool = False) -> None:
        self.data = aligned_empty(stats * 8 + size * sum(kind.itemsize for kind in kinds) + flag, np.uint8)
        """The whole of it, in bytes."""
        self.stats: Array = self.data[: stats * 8].view(np.float64)
        self.vectors: list[Array] = [self.data[:0]] * len(kinds)
        start = stats * 8
        for place in sorted(range(len(kinds)), key=lambda each: -kinds[each].itemsize):  # so that all are aligned
            stop = start + size * kinds[place].itemsize
            self.vectors[place] = self.data[start:stop].view(kinds[place])
            start = stop
        self.flag: Array = self.data[start:]
        """Shape (1,), or (0,) if there is none."""
