"""The gradient noise scale in words: what it says about the size of a batch."""

from __future__ import annotations

NOISE_SCALE = "noise_scale"
"""Name of the value of an epoch, and of its state in checkpoints."""


def critical_batch(scale: float, batch: int) -> str:
    """Return what a noise scale, in samples, means for a job with that batch, in a sentence.

    A training needs steps in proportion to 1 + scale / batch, and samples in proportion to 1 + batch / scale
    (McCandlish et al., arXiv:1812.06162, section 2.3).

    >>> critical_batch(2104.0, 256)
    'about 2,100 samples: 8.2 times the batch of 256; larger batches up to that save steps almost in proportion'
    >>> critical_batch(240.0, 256)
    'about 240 samples: as large as the batch of 256; a larger one saves few steps'
    >>> critical_batch(97.0, 256)
    'about 97 samples: the batch of 256 is 2.6 times as large; a smaller one needs few more steps'
    """
    ratio, samples = scale / batch, float(f"{scale:.2g}")
    about = f"about {samples:,.0f} samples" if samples >= 1 else "less than one sample"
    if ratio >= 1.5:
        said = f"{ratio:.2g} times the batch of {batch:,}; larger batches up to that save steps almost in proportion"
    elif ratio > 1 / 1.5:
        said = f"as large as the batch of {batch:,}; a larger one saves few steps"
    else:
        times = f"{batch / max(scale, 1):.2g}"
        said = f"the batch of {batch:,} is {times} times as large; a smaller one needs few more steps"
    return f"{about}: {said}"
