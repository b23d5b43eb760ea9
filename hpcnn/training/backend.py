"""The interface between a job's training, which all modes share, and the library that does the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from hpcnn.comm.collectives import Variant, agree, variants_or_raise
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.errors import CommunicatorError
from hpcnn.job.schema import Job
from hpcnn.kernels.version import ARITHMETIC_VERSION
from hpcnn.system.blas import fingerprint
from hpcnn.system.memory import aligned_empty
from hpcnn.training.model import AnyLoss, BuiltNetwork, Model
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
    loss: AnyLoss
    """Bound to the network's head, or to those of its outputs."""
    layout: StatsLayout
    backend: Backend
    arithmetic: Literal["native", "numpy"] = "numpy"
    """What computes wherever hpcnn itself does; see ``train.arithmetic`` of a job."""

    @property
    def stats_length(self) -> int:
        """How many numbers travel beside the gradients: the stats, and what becomes of the network's state."""
        return self.layout.size + sum(spec.size for spec in self.network.state)

    def make_model(self, dtype: str) -> Model:
        """Return the model with memory of its own for its parameters, which are yet to be loaded."""
        return self.backend.make_model(self, aligned_empty(self.network.layout.size, dtype))


BackendOf = Callable[[Job], Backend]
"""Chooses the backend that a job asks for."""


def machine_info(job: Job, backend: Backend) -> dict[str, Any]:
    """Return what decides the bits in addition to the job.

    With `native` arithmetic that is the version of its definitions, and in Keras mode what TensorFlow computes on.
    """
    native = {"arithmetic": f"native {ARITHMETIC_VERSION}"} if job.train.arithmetic == "native" else {}
    libraries = {} if native and job.backend == "numpy" else fingerprint()
    return {**native, **libraries, **backend.facts}


def machines_of_ranks(comm: Communicator, job: Job, backend: Backend) -> list[Variant[dict[str, Any]]]:
    """Return what `machine_info` there is, each with the first rank that has it, on all ranks. Collective.

    Raises:
        CommunicatorError: the ranks compute by different arithmetics, or by different versions of one; some on GPUs,
            and others not.
    """
    machines = variants_or_raise(comm, machine_info(job, backend))
    agree(comm, lambda: _check_one_arithmetic(machines))
    agree(comm, lambda: _check_one_device(machines))
    return machines


def _check_one_arithmetic(machines: Sequence[Variant[dict[str, Any]]]) -> None:
    if found := _difference(machines, "arithmetic", "numpy"):
        first, other, rank = found
        raise CommunicatorError(
            f"the arithmetic of rank 0 is {first}, and that of rank {rank} is {other}. Give all "
            "ranks the same job, with one train.arithmetic, and the same version of hpcnn."
        )


def _check_one_device(machines: Sequence[Variant[dict[str, Any]]]) -> None:
    if found := _difference(machines, "device", "cpu"):
        first, other, rank = found
        raise CommunicatorError(
            f"rank 0 computes on {first}, and rank {rank} on {other}: all ranks must see a GPU, or none. Set "
            'torch.device to "cpu", or start all ranks where there are GPUs.'
        )


def _difference(machines: Sequence[Variant[dict[str, Any]]], fact: str, default: str) -> tuple[str, str, int] | None:
    """Return a fact of rank 0, the first other one, and the first rank that has it; None if all are alike."""
    values = [str(each.value.get(fact, default)) for each in machines]
    others = [(values[0], value, each.rank) for value, each in zip(values, machines, strict=True) if value != values[0]]
    return others[0] if others else None
