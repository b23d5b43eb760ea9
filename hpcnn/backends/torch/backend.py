"""The backend of ``backend = "torch"``: PyTorch, behind the same interface as NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

    @classmethod
    def start(cls) -> TorchBackend:
        """Import PyTorch.

        Raises:
            MissingExtraError: it is not installed.
        """
        with ALONE:
            start_torch()
        return cls(runtime_facts())

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> TorchNetwork:
        """Return the network of the job."""
        with ALONE:
            return build_torch_network(job, input_shape)

    def make_model(self, spec: ModelSpec, vector: Array) -> TorchModel:
        """Return the model."""
        assert isinstance(spec.network, TorchNetwork)
        return TorchModel(spec.network, spec.loss, spec.layout, vector, spec.arithmetic)
