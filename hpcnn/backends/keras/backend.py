"""The backend of ``backend = "keras"``: Keras 3 on TensorFlow, behind the same interface as NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcnn.backends.keras.model import KerasModel
from hpcnn.backends.keras.network import KerasNetwork, build_keras_network
from hpcnn.backends.keras.runtime import ALONE, runtime_facts, start_tensorflow
from hpcnn.comm.protocol import Array
from hpcnn.job.schema import Job
from hpcnn.training.backend import ModelSpec


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

    def make_model(self, spec: ModelSpec, vector: Array) -> KerasModel:
        """Return the model."""
        assert isinstance(spec.network, KerasNetwork)
        return KerasModel(spec.network, spec.loss, spec.layout, vector, spec.arithmetic)
