"""Where PyTorch computes: on the CPU, or on the GPU of the rank. All calls of CUDA are here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

from hpcnn.errors import HpcnnError

_WORKSPACE, _WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
"""Environment variable, and the values with which cuBLAS adds in one order."""


class Copying(Protocol):
    """A copy that goes on beside the computation."""

    def wait(self) -> None:
        """Return once the target has all of it."""


class Device(Protocol):
    """A device with memory of its own."""

    place: Any
    """Its `torch.device`."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What decides the bits in addition to PyTorch's version."""

    def seed(self, word: int) -> None:
        """Begin the device's random numbers anew."""

    def host_memory(self, size: int, dtype: Any) -> Any:
        """Return a tensor in the host's memory that the device reaches without help."""

    def copy(self, source: Any, target: Any) -> Copying:
        """Begin to copy a tensor of the device to one of `host_memory`, after all that was computed so far."""


class Cuda:
    """A GPU; see `Device`. Copies have a stream of their own."""

    def __init__(self, place: Any) -> None:
        import torch

        self.place = place
        self._copies = torch.cuda.Stream(place)  # type: ignore[no-untyped-call]

    @property
    def facts(self) -> Mapping[str, Any]:
        """The kind of GPU, and the versions of CUDA's libraries."""
        import torch

        kind = torch.cuda.get_device_name(self.place)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return {"device": "cuda", "gpu": kind, "cuda": torch.version.cuda, "cudnn": cudnn}

    def seed(self, word: int) -> None:
        """Begin the GPU's random numbers anew."""
        import torch

        torch.cuda.default_generators[self.place.index].manual_seed(word)

    def host_memory(self, size: int, dtype: Any) -> Any:
        """Return a tensor in page-locked memory."""
        import torch

        return torch.zeros(size, dtype=dtype, pin_memory=True)

    def copy(self, source: Any, target: Any) -> Copying:
        """Begin to copy."""
        import torch

        self._copies.wait_stream(torch.cuda.current_stream(self.place))
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self._copies)
        return _Recorded(done)


class _Recorded:
    """A copy of which an event tells the end."""

    def __init__(self, done: Any) -> None:
        self._done = done

    def wait(self) -> None:
        """Wait for the event."""
        self._done.synchronize()


def prepare_device(name: str) -> None:
    """Set what CUDA's libraries read when they start, before PyTorch is imported.

    Raises:
        HpcnnError: the environment asks for sums whose order changes.
    """
    if name == "cpu":
        return
    asked = os.environ.setdefault(_WORKSPACE, _WORKSPACES[0])
    if asked not in _WORKSPACES:
        raise HpcnnError(
            f"{_WORKSPACE} is {asked!r}, with which cuBLAS may add in another order each time: set it to "
            f"{' or '.join(_WORKSPACES)}, or unset it"
        )


def device_of(name: str, local_rank: int) -> Device | None:
    """Return the GPU of the rank with that number on its node, modulo the number of GPUs; None: the CPU.

    PyTorch computes there by deterministic algorithms from then on, with all bits of float32.

    Args:
        name: ``torch.device`` of a job.
        local_rank: the number.

    Raises:
        HpcnnError: a GPU is asked for, and PyTorch sees none.
    """
    import torch

    if name == "cpu":
        return None
    if not torch.cuda.is_available():
        if name == "auto":
            return None
        built = torch.version.cuda is not None or torch.version.hip is not None
        why = "`nvidia-smi` tells what the driver sees" if built else "this build of PyTorch is for the CPU alone"
        raise HpcnnError(
            f'torch.device = "{name}", but PyTorch {torch.__version__} sees no GPU: {why}. Set torch.device to "cpu", '
            'or to "auto" to use a GPU where there is one.'
        )
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.cuda.set_device(local_rank % torch.cuda.device_count())
    return Cuda(torch.device("cuda", torch.cuda.current_device()))
