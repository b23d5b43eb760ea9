"""Windows that pooling slides over samples of one to three spatial axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from hpcnn.nn.workspace import Array

Three = tuple[int, int, int]


@dataclass(frozen=True)
class Windows:
    """Window o of an axis begins at ``o step - before`` and is `size` long; what lies outside the sample is no part."""

    inputs: Three
    outputs: Three
    size: Three
    step: Three
    before: Three

    def taps(self) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
        """Yield, for each entry of a window in order, where its windows are in the outputs, and it in the inputs.

        Both index arrays of shape (n, a, b, c, channels), and leave out windows in which the entry lies outside.
        """
        for tap in product(*map(range, self.size)):
            parts = [self._part(axis, offset) for axis, offset in enumerate(tap)]
            if all(outputs.stop > outputs.start for outputs, _ in parts):
                yield (slice(None), *(part[0] for part in parts)), (slice(None), *(part[1] for part in parts))

    def _part(self, axis: int, offset: int) -> tuple[slice, slice]:
        step, shift = self.step[axis], offset - self.before[axis]
        first = max(0, -(shift // step))
        last = min(self.outputs[axis], (self.inputs[axis] - 1 - shift) // step + 1)
        return slice(first, last), slice(first * step + shift, (last - 1) * step + shift + 1, step)

    @cached_property
    def shares(self) -> Array:
        """One over the number of entries of each window, shape (a, b, c, 1)."""
        counts = np.ones((1, 1, 1, 1))
        for axis in range(3):
            starts = np.arange(self.outputs[axis]) * self.step[axis] - self.before[axis]
            stops = np.minimum(starts + self.size[axis], self.inputs[axis])
            shape = [1, 1, 1, 1]
            shape[axis] = -1
            counts = counts * (stops - np.maximum(starts, 0)).reshape(shape)
        return 1 / counts
