"""The gradient noise scale in words: what it says about the size of a batch."""

from __future__ import annotations

NOISE_SCALE = "noise_scale"
"""Name of the value of an epoch, and of its state in checkpoints."""
_MANY_TIMES = 4
"""Times the batch from which on twice the batch needs at most 60 % of the steps."""


def critical_batch(scale: float, batch: int) -> str:
    """Return what a noise scale, in samples, means for a job with that batch, in a sentence.

    A training needs steps in proportion to 1 + scale / batch, and samples in proportion to 1 + batch / scale
    (McCandlish et al., arXiv:1812.06162, section 2.3).

    >>> critical_batch(2104.0, 256)
    'about 2,100 samples: 8.2 times the batch of 256; larger batches up to that save steps almost in proportion'
    >>> critical_batch(240.0, 128)
    'about 240 samples: 1.9 times the batch of 128; twice the batch needs about 67 % of the steps'
    >>> critical_batch(97.0, 256)
    'about 97 samples: the batch of 256 is 2.6 times as large; half the batch needs about 27 % more steps'
    """
    ratio, samples = scale / batch, _two_digits(scale)
    about = f"about {samples:,.0f} samples" if samples >= 1 else "less than one sample"
    if ratio >= _MANY_TIMES:
        times = f"{_two_digits(ratio):,g} times the batch of {batch:,}"
        said = f"{times}; larger batches up to that save steps almost in proportion"
    elif ratio >= 1:
        share = 100 * (1 + ratio / 2) / (1 + ratio)
        said = f"{ratio:.2g} times the batch of {batch:,}; twice the batch needs about {share:.0f} % of the steps"
    else:
        more, times = 100 * ratio / (1 + ratio), f"{_two_digits(batch / max(scale, 1)):,g} times as large"
        said = f"the batch of {batch:,} is {times}; half the batch needs about {more:.0f} % more steps"
    return f"{about}: {said}"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
