"""The version of the arithmetic, which checkpoints keep."""

from __future__ import annotations

ARITHMETIC_VERSION = 2
"""Changes only when a definition changes: the order of a sum, an elementwise function or a stream of random numbers."""
