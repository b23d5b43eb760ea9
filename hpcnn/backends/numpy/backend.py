"""The backend that is always there: layers written in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.backends.numpy.replica import NumpyReplica
from hpcnn.job.schema import Job
from hpcnn.nn.build import build_network
from hpcnn.nn.network import Network
from hpcnn.training.backend import Backend, BuiltNetwork, Model
from hpcnn.training.vector_replica import ReplicaParts


class NumpyBackend:
    """Computes with `hpcnn.nn`; see `Backend`."""

    facts: Mapping[str, Any] = {}

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> Network:
        """Return the network of the job."""
        return build_network(job.model, input_shape)

    def state_size(self, network: BuiltNetwork) -> int:
        """Return 0: training changes nothing but what it learns."""
        return 0

    def make_model(self, job: Job, model: Model) -> NumpyModel:
        """Return the model."""
        assert isinstance(model.network, Network)
        return NumpyModel(model.network, model.loss, model.layout, dtype=job.train.dtype)

    def make_replica(self, network: BuiltNetwork, parts: ReplicaParts) -> NumpyReplica:
        """Return the model in training."""
        assert isinstance(network, Network)
        return NumpyReplica(network, parts)


NUMPY = NumpyBackend()


def numpy_backend_of(job: Job) -> Backend:
    """Return this backend, whatever the job asks for."""
    return NUMPY
