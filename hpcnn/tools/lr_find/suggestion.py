"""Suggests a learning rate from the losses of a range test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpcnn.tools.lr_find.measure import RangeTest

Vector = NDArray[np.float64]

WIDTH = 1 / 40
"""Standard deviation of the window that smooths the losses, as a share of all steps."""
LEAST_FALL = 0.02
"""Least relative fall of the loss that counts."""
FEWEST = 5
"""Least number of losses in the mean of the first ones."""
NOISE = 4.0
"""Least fall of the loss in standard errors; a smaller one may be due to chance."""


@dataclass(frozen=True)
class Suggestion:
    """Where the smoothed loss falls fastest, and where it is lowest."""

    steepest: float
    """The rate at which the smoothed loss falls fastest, per decade of the rate: what is suggested."""
    lowest: float
    """The rate at which the smoothed loss is lowest: with more, training is about to diverge."""

    @property
    def rate(self) -> float:
        """The rate to put into the job: `steepest`, with two digits."""
        return float(f"{self.steepest:.1e}")

    @property
    def tenth(self) -> float:
        """A tenth of `lowest`, with two digits: the other common rule."""
        return float(f"{self.lowest / 10:.1e}")


def smoothed(losses: Vector, steps: int) -> Vector:
    """Return the losses smoothed with a centred Gaussian window.

    >>> smoothed(np.array([2.0, 2.0, 2.0]), 100).tolist()
    [2.0, 2.0, 2.0]
    """
    return np.array([(_shares(place, len(losses), steps) * losses).sum() for place in range(len(losses))])


def _shares(place: int, count: int, steps: int) -> Vector:
    """Return the weight of each loss in the smoothed one at `place`; they add up to 1."""
    window = np.exp(-0.5 * np.square((place - np.arange(count)) / max(1.0, WIDTH * steps)))
    return np.asarray(window / window.sum())


def suggest(test: RangeTest) -> Suggestion | None:
    """Return the rates that the test speaks for, or None if the loss never falls.

    The steepest fall is looked for between the last place where the loss still is where it began, but for a tenth of
    its fall, and its lowest: what goes up and down before is noise of the batches.
    """
    if len(test.losses) < FEWEST:
        return None
    losses = smoothed(test.losses, test.steps)
    first_ones = test.losses[: max(FEWEST, test.steps // 10)]
    start = float(first_ones.mean())
    lowest = int(np.argmin(losses))
    if losses[lowest] >= test.losses[0]:  # that of the weights as they began: it only got worse
        return None
    fall = start - float(losses[lowest])
    variance = np.square(_shares(lowest, len(losses), test.steps)).sum() + 1 / len(first_ones)
    if fall <= max(LEAST_FALL * abs(start), NOISE * _spread(test, losses, lowest) * math.sqrt(variance)):
        return None
    high = np.flatnonzero(losses[:lowest] >= start - 0.1 * fall)
    first = int(high[-1]) if high.size else 0
    slope = np.gradient(losses, np.log10(test.rates))
    steepest = first + int(np.argmin(slope[first : lowest + 1]))
    return Suggestion(float(test.rates[steepest]), float(test.rates[lowest]))


def _spread(test: RangeTest, losses: Vector, lowest: int) -> float:
    """Return the deviation of a batch's loss from the smoothed one, as long as the loss does not diverge."""
    before = max(lowest + 1, len(losses) // 3)
    return 1.4826 * float(np.median(np.abs(test.losses - losses)[:before]))  # robust; the factor is that of a normal
