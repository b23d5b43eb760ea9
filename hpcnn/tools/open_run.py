"""Opens a run for tools that inspect its layers, with the NumPy backend even if Keras trained it."""

from __future__ import annotations

import argparse

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.protocol import Communicator
from hpcnn.job.schema import Job
from hpcnn.runs.inference import TrainedModel, open_on_ranks
from hpcnn.training.backend import Backend, BackendOf


def by_numpy(otherwise: BackendOf) -> BackendOf:
    """Return a function that chooses NumPy for layers in a job file, and `otherwise` for a model built in Python."""

    def backend_of(job: Job) -> Backend:
        return NUMPY if job.model.layers else otherwise(job)

    return backend_of


def open_by_numpy(comm: Communicator, arguments: argparse.Namespace, otherwise: BackendOf) -> TrainedModel:
    """Return the model that the arguments of `hpcnn.cli.arguments.add_run_arguments` name. Collective."""
    names = arguments.run, arguments.checkpoint, arguments.entry
    backend_of = otherwise if arguments.backend else by_numpy(otherwise)
    return open_on_ranks(comm, *names, backend=arguments.backend, backend_of=backend_of)
