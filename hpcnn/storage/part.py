"""What ranks have written of a checkpoint's file."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Part:
    """What one rank has written, or several together."""

    error: OSError | None = None
    """Why something is missing."""
    weights: str = ""
    """The SHA-256 of the weights; empty where rank 0 is not among them."""
    digests: dict[int, bytes] = field(default_factory=dict)
    """Of the chunks of all else, by number."""
    edges: dict[int, bytes] = field(default_factory=dict)
    """What is left to rank 0 to write, by its place in the file."""

    def merge(self, other: Part) -> Part:
        """Return what both have written; may use up either."""
        self.error = self.error or other.error
        self.weights = self.weights or other.weights
        self.digests |= other.digests
        self.edges |= other.edges
        return self
