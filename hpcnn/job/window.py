"""`[data.window]`: windows over rows in the order of time."""

from __future__ import annotations

from hpcnn.job.section import PositiveInt, Section


class Window(Section, frozen=True, kw_only=True):
    """Samples are windows of consecutive rows, which are in the order of time, and targets the rows after them."""

    steps: PositiveInt
    """Rows of inputs, (steps, ...)."""
    horizon: PositiveInt = 1
    """Rows of targets, (horizon, ...)."""
    gap: int = 0
    """Rows between inputs and targets, as 5 with `horizon = 1` for the sixth row ahead. Below 0: targets begin so \
many rows before the inputs end, as -1 for a target of the last row."""
    stride: PositiveInt = 1
    """Distance of the starts of two windows."""

    @property
    def span(self) -> int:
        """Rows from the first of the inputs to the last of inputs and targets."""
        return max(self.steps, self.steps + self.gap + self.horizon)
