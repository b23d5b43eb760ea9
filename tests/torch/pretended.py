"""A device with memory of its own that is the CPU, and whose copies take place as late as they may."""

from __future__ import annotations

import torch


class Pretended:
    """See `hpcnn.backends.torch.device.Device`."""

    def __init__(self) -> None:
        self.place = torch.device("cpu")
        self.facts = {"device": "pretended"}
        self.copies = self.seeds = 0

    def seed(self, word: int) -> None:
        self.seeds += 1

    def host_memory(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((size,), torch.nan, dtype=dtype)

    def copy(self, source: torch.Tensor, target: torch.Tensor) -> _Late:
        self.copies += 1
        return _Late(source, target)


class _Late:
    """Fails where the source changes before it is copied; the target is no number until then."""

    def __init__(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self._source, self._target, self._before = source, target, source.clone()
        target.fill_(torch.nan)

    def wait(self) -> None:
        assert torch.equal(self._source, self._before), "written before it was copied"
        self._target.copy_(self._source)
