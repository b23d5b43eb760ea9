"""What computes: the seam between a job's training, which all modes share, and the library that does the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hpcnn.job.schema import Job
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.params import ParamLayout
from hpcnn.system.blas import fingerprint
from hpcnn.training.step_stats import SumsLayout
from hpcnn.training.vector_model import VectorModel
from hpcnn.training.vector_replica import ReplicaParts, VectorReplica


class BuiltNetwork(Protocol):
    """A network, as far as everything but its own backend knows it."""

    @property
    def layout(self) -> ParamLayout:
        """Where each parameter lies."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        ...

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the outputs for one sample."""
        ...

    @property
    def head(self) -> str:
        """Name of the last activation, if it stands apart from the layers."""
        ...

    @property
    def ending(self) -> str | None:
        """Name of the last activation, wherever it is; None if that is not known."""
        ...


class Backend(Protocol):
    """Builds networks and computes with them."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What decides the bits beside the job and the machine, as versions of libraries."""
        ...

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> BuiltNetwork:
        """Return the network of the job's ``[model]`` for samples of `input_shape`.

        Raises:
            ModelError: the layers do not fit together or to the data, or the backend has no such layers.
        """
        ...

    def state_size(self, network: BuiltNetwork) -> int:
        """Return how many numbers training changes in the network beside what it learns."""
        ...

    def make_model(self, job: Job, model: Model) -> VectorModel:
        """Return the model with memory for its parameters, which are yet to be loaded."""
        ...

    def make_replica(self, network: BuiltNetwork, parts: ReplicaParts) -> VectorReplica:
        """Return the model in training, with the parameters at their start."""
        ...


@dataclass(frozen=True)
class Model:
    """A network with its loss, the sums to keep, and what computes it."""

    network: BuiltNetwork
    loss: BoundLoss
    layout: SumsLayout
    backend: Backend

    @property
    def stats_length(self) -> int:
        """How many sums travel with the gradients."""
        return self.layout.size + self.backend.state_size(self.network)


BackendOf = Callable[[Job], Backend]
"""Chooses the backend that a job asks for."""


def measured_on(backend: Backend) -> dict[str, Any]:
    """Return what, beside the job, decides the bits."""
    return fingerprint() | dict(backend.facts)
