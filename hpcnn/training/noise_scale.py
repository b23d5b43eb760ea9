"""The gradient noise scale: how large a batch can be before more samples hardly make a step better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcnn.comm.protocol import Communicator
from hpcnn.core.critical_batch import NOISE_SCALE
from hpcnn.training.callbacks import Array, Callback, StepReport
from hpcnn.training.replica import Measured, Replica
from hpcnn.training.squared_norm import squared_norm
from hpcnn.training.step_stats import COUNT


@dataclass
class NoiseScale:
    """Estimates tr(S) / |G|^2, where G is the mean gradient of a sample and S the covariance of samples' gradients.

    The mean gradient g_n of n samples has E[|g_n|^2] = |G|^2 + tr(S) / n. So, from a shard of b samples and the
    batch of B that it is a part of::

        |G|^2 = (B |g_B|^2 - b |g_b|^2) / (B - b)
        tr(S) = (|g_b|^2 - |g_B|^2) / (1 / b - 1 / B)

    without bias, for any b < B: each measurement takes the sizes of its own batch. The two are averaged apart, since
    the ratio of single measurements has a bias. Source: McCandlish et al., "An Empirical Model of Large-Batch
    Training", arXiv:1812.06162, section 2.2 and appendix A.1.

    >>> noise = NoiseScale()
    >>> noise.scale
    nan
    >>> noise.add(shard=(3.0, 2), batch=(1.5, 8))  # |g_b|^2 and b, |g_B|^2 and B
    >>> round(noise.scale, 6)
    4.0
    """

    gradient: float = 0.0
    """Average of |G|^2, with the weight that the measurements so far have together."""
    variance: float = 0.0
    """Average of tr(S), with the same weight, so that it is not in their ratio."""
    decay: float = 0.9
    """What is left of the averages at each measurement."""

    def add(self, shard: tuple[float, int], batch: tuple[float, int]) -> None:
        """Add a measurement: squared norm of the mean gradient, and samples, of a shard and of the whole batch."""
        (square_b, b), (square_all, n) = shard, batch
        gradient = (n * square_all - b * square_b) / (n - b)
        variance = (square_b - square_all) / (1 / b - 1 / n)
        self.gradient = self.decay * self.gradient + (1 - self.decay) * gradient
        self.variance = self.decay * self.variance + (1 - self.decay) * variance

    @property
    def scale(self) -> float:
        """The noise scale in samples; NaN before the first measurement, or where noise hides the gradient's norm."""
        if self.gradient <= 0 or self.variance < 0:
            return math.nan
        return self.variance / self.gradient


class NoiseScaleMeter(Callback):
    """Measures the noise scale every so many steps; its averages are part of checkpoints."""

    def __init__(self, comm: Communicator, every: int) -> None:
        self._comm, self._every = comm, every
        self.noise = NoiseScale()

    def on_train_begin(self, epoch: int, replica: Replica) -> None:
        """Have the gradients measured."""
        replica.measure_every = self._every

    def on_step(self, report: StepReport) -> None:
        """Take a measurement. Collective, if there is one."""
        if report.replica.measured is None:
            return
        found: list[Measured] = self._comm.allgather(report.replica.measured)
        shard = next((each.of_shard for each in found if each.of_shard is not None), None)
        samples = int(report.stats[COUNT])
        if shard is None or shard[1] == samples:
            return  # all other shards of this batch are empty, or the first is
        whole = squared_norm(squares for each in found for squares in each.of_batch)
        self.noise.add((shard[0] / shard[1] ** 2, shard[1]), (whole / samples**2, samples))

    def values(self) -> dict[str, float]:
        """Return the noise scale by its name."""
        return {NOISE_SCALE: self.noise.scale}

    def state(self) -> dict[str, Any]:
        """Return the averages."""
        return {"gradient": self.noise.gradient, "variance": self.noise.variance}

    def load(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on; from the start, if the checkpoint was written without a meter."""
        self.noise = NoiseScale(**state)
