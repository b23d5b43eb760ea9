"""The interface between a job's training, which all modes share, and the library that does the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hpcnn.comm.protocol import Array
from hpcnn.job.schema import Job
from hpcnn.nn.loss import BoundLoss
from hpcnn.system.blas import fingerprint
from hpcnn.system.memory import aligned_empty
from hpcnn.training.model import BuiltNetwork, Model
from hpcnn.training.step_stats import StatsLayout


class Backend(Protocol):
    """Builds networks and computes with them."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What decides the bits in addition to the job and the machine, as versions of libraries."""

    def build_network(self, job: Job, input_shape: tuple[int, ...]) -> BuiltNetwork:
        """Return the network of the job's ``[model]`` for samples of `input_shape`. ModelError: it can't be built."""

    def make_model(self, spec: ModelSpec, vector: Array) -> Model:
        """Return the model with its parameters in `vector`, as they are."""


@dataclass(frozen=True)
class ModelSpec:
    """All of a model but its parameters: a network with its loss, the stats to keep, and what computes it."""

    network: BuiltNetwork
    loss: BoundLoss
    """Bound to the network's head."""
    layout: StatsLayout
    backend: Backend

    @property
    def stats_length(self) -> int:
        """How many numbers travel beside the gradients: the stats, and what becomes of the network's state."""
        return self.layout.size + sum(spec.size for spec in self.network.state)

    def make_model(self, dtype: str) -> Model:
        """Return the model with memory of its own for its parameters, which are yet to be loaded."""
        return self.backend.make_model(self, aligned_empty(self.network.layout.size, dtype))


BackendOf = Callable[[Job], Backend]
"""Chooses the backend that a job asks for."""


def machine_info(backend: Backend) -> dict[str, Any]:
    """Return what decides the bits in addition to the job."""
    return fingerprint() | dict(backend.facts)
