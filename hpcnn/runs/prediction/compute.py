"""What one rank computes in a step, by its samples."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Compute:
    """Seconds of one rank, by what they depend on."""

    fixed_s: float
    """Of a step, however few samples it has."""
    sample_s: float
    """Of each sample, forward and backward."""
    update_s: float = 0.0
    """To update all parameters."""

    @classmethod
    def of_step(cls, seconds: float, samples: int) -> Compute:
        """Return that of a step of so many seconds, all in proportion to its samples."""
        return cls(0.0, seconds / samples)

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float], update_s: float) -> Compute:
        """Return the line through two measurements: samples, and seconds.

        >>> Compute.through((10, 3.0), (20, 4.0), 0.0)
        Compute(fixed_s=2.0, sample_s=0.1, update_s=0.0)
        """
        if not few[0] < many[0] or not few[1] < many[1]:
            return cls(0.0, many[1] / many[0], update_s)
        sample_s = min((many[1] - few[1]) / (many[0] - few[0]), many[1] / many[0])
        return cls(many[1] - sample_s * many[0], sample_s, update_s)

    def seconds(self, samples: int) -> float:
        """Return what forward and backward take for so many samples."""
        return self.fixed_s + self.sample_s * samples
