"""The backend of ``backend = "keras"``: Keras 3 on TensorFlow, behind the same seam as NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcnn.backends.keras.model import KerasModel
from hpcnn.backends.keras.network import KerasNetwork, build_keras_network
from hpcnn.backends.keras.replica import KerasReplica
from hpcnn.backends.keras.runtime import ALONE, runtime_facts, start_tensorflow
from hpcnn.job.schema import Job
from hpcnn.training.backend import BuiltNetwork, Model
from hpcnn.training.vector_replica import ReplicaParts


@dataclass(frozen=True)
class KerasBackend:
    """Computes with Keras; see `hpcnn.training.backend.Backend`."""

    facts: Mapping[str, Any]

    @classmethod
    def start(cls, local_rank: int) -> KerasBackend:
        """Import TensorFlow, for a rank that is number `local_rank` of its host.

        Raises:
            HpcnnError: it is not installed, or Keras does not work with it.
        """
        with ALONE:
            start_tensorflow(local_rank)
        return cls(runtime_facts())

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> KerasNetwork:
        """Return the network of the job."""
        with ALONE:
            return build_keras_network(job, input_shape)

    def state_size(self, network: BuiltNetwork) -> int:
        """Return how many numbers there are in averages that training updates."""
        assert isinstance(network, KerasNetwork)
        return network.state_size

    def make_model(self, job: Job, model: Model) -> KerasModel:
        """Return the model."""
        assert isinstance(model.network, KerasNetwork)
        return KerasModel(model.network, model.loss, model.layout)

    def make_replica(self, network: BuiltNetwork, parts: ReplicaParts) -> KerasReplica:
        """Return the model in training."""
        assert isinstance(network, KerasNetwork)
        return KerasReplica(network, parts)
