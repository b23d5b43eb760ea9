"""The backend of ``backend = "torch"``: PyTorch, behind the same interface as NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcnn.backends.torch.device import Device, device_of, prepare_device
from hpcnn.backends.torch.model import TorchModel
from hpcnn.backends.torch.network import TorchNetwork, build_torch_network
from hpcnn.backends.torch.runtime import ALONE, runtime_facts, start_torch
from hpcnn.comm.protocol import Array
from hpcnn.job.schema import Job
from hpcnn.training.backend import ModelSpec


@dataclass(frozen=True)
class TorchBackend:
    """Computes with PyTorch; see `hpcnn.training.backend.Backend`."""

    facts: Mapping[str, Any]
    device: Device | None = None
    """What models compute on; None: the CPU."""

    @classmethod
    def start(cls, device: str = "cpu", local_rank: int = 0) -> TorchBackend:
        """Import PyTorch.

        Args:
            device: ``torch.device`` of a job.
            local_rank: the rank's number on its node, which chooses its GPU.

        Raises:
            MissingExtraError: it is not installed.
            HpcnnError: a GPU is asked for, and PyTorch sees none.
        """
        with ALONE:
            prepare_device(device)
            start_torch()
            found = device_of(device, local_rank)
        return cls({**runtime_facts(), **(found.facts if found else {})}, found)

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> TorchNetwork:
        """Return the network of the job."""
        with ALONE:
            return build_torch_network(job, input_shape)

    def make_model(self, spec: ModelSpec, vector: Array) -> TorchModel:
        """Return the model."""
        assert isinstance(spec.network, TorchNetwork)
        return TorchModel(spec.network, spec.loss, spec.layout, vector, spec.arithmetic, self.device)
