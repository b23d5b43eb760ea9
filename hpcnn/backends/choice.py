"""Chooses what computes a job, for all commands: NumPy, or Keras or PyTorch, whose imports take seconds."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from hpcnn.system.output import ERROR, write_line

if TYPE_CHECKING:
    from hpcnn.comm.protocol import Communicator
    from hpcnn.job.schema import Job
    from hpcnn.training.backend import Backend, BackendOf

BACKENDS = ("numpy", "keras", "torch")


def choose_backend(comm: Communicator) -> BackendOf:
    """Return what chooses the backend of a job for this rank.

    It raises an HpcnnError where that backend is not installed or can't work, so call it within `agree`.
    """
    return partial(_backend_of, comm)


def _backend_of(comm: Communicator, job: Job) -> Backend:
    if job.backend == "numpy":
        from hpcnn.backends.numpy.backend import NUMPY

        return NUMPY
    if job.backend == "torch":
        from hpcnn.backends.torch.backend import TorchBackend

        _say_import(comm, job, "PyTorch", "torch")
        return TorchBackend.start(job.torch.device, comm.local_rank)
    from hpcnn.backends.keras.backend import KerasBackend

    _say_import(comm, job, "TensorFlow", "tensorflow")
    return KerasBackend.start(comm.local_rank)


def _say_import(comm: Communicator, job: Job, name: str, package: str) -> None:
    if comm.rank == 0 and not job.run.quiet and package not in sys.modules:
        write_line(f"importing {name} ...", ERROR)
