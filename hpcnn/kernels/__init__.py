"""The compiled core: arithmetic whose every sum has one order, so that bits depend on the job alone."""

from __future__ import annotations

TYPE_CHECKING = False  # that of `typing`, without its import
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Load the compiled module `core` when it is first asked for: whoever trains with NumPy does without it."""
        if name != "core":
            raise AttributeError(f"module 'hpcnn.kernels' has no attribute {name!r}")
        from hpcnn.kernels.loading import load_core

        return load_core()
