"""The backend that is always there: layers written in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.protocol import Array
from hpcnn.job.schema import Job
from hpcnn.models.build import build_network
from hpcnn.nn.network import Network
from hpcnn.training.backend import Backend, ModelSpec


class NumpyBackend:
    """Computes with `hpcnn.nn`; see `Backend`."""

    facts: Mapping[str, Any] = {}

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> Network:
        """Return the network of the job."""
        network = build_network(job.model, input_shape)
        if job.train.checkpoint_activations:
            network.recompute_activations()
        return network

    def make_model(self, spec: ModelSpec, vector: Array) -> NumpyModel:
        """Return the model."""
        assert isinstance(spec.network, Network)
        return NumpyModel(spec.network, spec.loss, spec.layout, vector, spec.arithmetic)


NUMPY = NumpyBackend()


def numpy_backend_of(job: Job) -> Backend:
    """Return this backend, whatever the job asks for."""
    return NUMPY
