"""Opens a run for tools that inspect its layers, with the NumPy backend even if Keras trained it."""

from __future__ import annotations

import argparse

from hpcnn.backends.choice import choose_backend
from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.protocol import Communicator
from hpcnn.runs.inference import TrainedModel, open_on_ranks
from hpcnn.training.backend import BackendOf


def by_numpy(otherwise: BackendOf) -> BackendOf:
    """Return a function that chooses NumPy for what a job file describes, and `otherwise` for what Python builds."""
    return lambda job: otherwise(job) if job.model.entry else NUMPY


def open_by_numpy(comm: Communicator, arguments: argparse.Namespace) -> TrainedModel:
    """Return the model that the arguments of `hpcnn.cli.arguments.add_run_arguments` name. Collective."""
    names, choice = (arguments.run, arguments.checkpoint, arguments.entry), choose_backend(comm)
    backend_of = choice if arguments.backend else by_numpy(choice)
    return open_on_ranks(comm, *names, backend=arguments.backend, backend_of=backend_of)
