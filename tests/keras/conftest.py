"""The environments of the tests in Keras mode: this one, and one with an older TensorFlow, each with its Horovod."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from tests.mpi import launch
from tests.mpi.launch import Mpi
from tests.require import missing

TF218_PREFIX = "HPCNN_TF218_PREFIX"


@pytest.fixture(scope="session")
def tensorflow_environment() -> Mpi:
    """Return the MPI of this environment, which has TensorFlow."""
    if importlib.util.find_spec("tensorflow") is None:
        missing(f"TensorFlow is not installed in {sys.prefix}")
    return launch.mpich()


@pytest.fixture(scope="session")
def tf218() -> Mpi:
    """Return the MPI of an environment with TensorFlow 2.18."""
    prefix = Path(os.environ.get(TF218_PREFIX, "/nonexistent"))
    if not list(prefix.glob("lib/python3*/site-packages/tensorflow")):
        missing(f"TensorFlow 2.18 is not installed in {prefix}; {TF218_PREFIX} names its environment")
    return Mpi("mpich", prefix)


@pytest.fixture(scope="session", params=["tensorflow_environment", "tf218"])
def horovod(request: pytest.FixtureRequest) -> Mpi:
    """Return the MPI of each environment that has Horovod."""
    mpi: Mpi = request.getfixturevalue(request.param)
    return with_horovod(mpi)


@pytest.fixture(scope="session")
def newest_horovod(tensorflow_environment: Mpi) -> Mpi:
    """Return the MPI of this environment, which has Horovod."""
    return with_horovod(tensorflow_environment)


def with_horovod(mpi: Mpi) -> Mpi:
    if not list(mpi.prefix.glob("lib/python3*/site-packages/horovod/tensorflow/mpi_lib*.so")):
        missing(f"Horovod is not installed in {mpi.prefix}; make horovod builds it, given a C++ compiler")
    return mpi
