"""PyTorch, imported and set so that results do not depend on threads, or on what ran before."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from hpcnn.errors import MissingExtraError

ALONE = threading.RLock()
"""Held while models are built, and while one draws random numbers: PyTorch's generator is that of the process."""


def start_torch() -> None:
    """Import PyTorch: deterministic operations, one thread a rank.

    The order of its sums depends on the number of threads, so ranks are what uses more cores.

    Raises:
        MissingExtraError: PyTorch is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise MissingExtraError("torch", "torch", 'backend = "torch"') from None
    torch.set_num_threads(1)
    with suppress(RuntimeError):  # it computes already
        torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # each new tensor, which takes time


def runtime_facts() -> dict[str, Any]:
    """Return what decides the bits in addition to the job and the machine."""
    import torch

    return {
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "torch_vectors": torch.backends.cpu.get_cpu_capability(),
        "onednn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "mkl_cbwr": os.environ.get("MKL_CBWR", "default"),
    }


@contextmanager
def numbers_of(dtype: str) -> Iterator[None]:
    """Have PyTorch create tensors of that type where its caller does not say which."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Have PyTorch draw from a seed, and go on with its own random numbers afterwards."""
    import torch

    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
