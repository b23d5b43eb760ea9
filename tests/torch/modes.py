"""Shared by the tests of PyTorch mode: its backend in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.require import require


@contextmanager
def torch_backend() -> Iterator[object]:
    """Yield the backend, and leave PyTorch to other tests as it was."""
    torch = require("torch")
    from hpcnn.backends.torch.backend import TorchBackend

    threads = torch.get_num_threads()
    yield TorchBackend.start()
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)
