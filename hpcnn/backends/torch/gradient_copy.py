"""The gradient of a device on its way to the host's memory, from its end to its start, while the rest is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcnn.backends.torch.device import Copying, Device

PIECE_BYTES = 2**22
"""Bytes from which on a piece is copied by itself: shorter ones do not reach the rate of the bus."""


class GradientCopy:
    """A flat gradient on a device, and its copy.

    A pass back fills `gradient` from its end, calls `reached`, and at the end `finish`. The device computes after the
    calls that ask it to have returned, so that pieces still arrive, one after the other, while `finish` waits for them.

    Args:
        device: computes the gradient.
        size: its entries.
        dtype: their type.
    """

    def __init__(self, device: Device, size: int, dtype: Any) -> None:
        import torch

        self._device = device
        self.gradient: Any = torch.zeros(size, dtype=dtype, device=device.place)
        self._arriving = device.host_memory(size, dtype)
        self._piece = PIECE_BYTES // dtype.itemsize
        self._copies: list[tuple[slice, Copying]] = []
        self._end = size

    def reached(self, start: int) -> None:
        """Let the copy proceed to the entries from `start` on: what computes them has been called."""
        if self._end - start >= self._piece:
            self._copy(start)

    def finish(self, first: int, target: Any, ready: Callable[[int], None] | None) -> None:
        """Overwrite the entries of `target` from `first` on, and tell `ready` from where on they are there."""
        if self._end > first:
            self._copy(first)
        copies, self._copies, self._end = self._copies, [], self.gradient.numel()
        for part, copying in copies:
            copying.wait()
            target[part].copy_(self._arriving[part])
            if ready is not None:
                ready(part.start)

    def _copy(self, start: int) -> None:
        part = slice(start, self._end)
        self._copies.append((part, self._device.copy(self.gradient[part], self._arriving[part])))
        self._end = start
