"""Shared by the tests of Keras mode: its backend in this process, and models of both modes with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hpcnn.backends.numpy.backend import NUMPY
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.runs.build import build_replica, build_spec
from tests.require import require


@contextmanager
def keras_backend() -> Iterator[object]:
    """Yield the backend, and leave TensorFlow to other tests as it was."""
    keras = require("keras")
    require("tensorflow")
    from tensorflow.python.framework.config import disable_op_determinism

    from hpcnn.backends.keras.backend import KerasBackend

    before = keras.config.floatx()
    yield KerasBackend.start(0)
    disable_op_determinism()
    keras.config.set_floatx(before)


def both_replicas(job, shape, backend, class_weights=None):
    """Return the job's replica in NumPy and in Keras mode, whose weights are the same and off their start."""
    replicas = [
        build_replica(job, build_spec(job, shape, each), SerialCommunicator(), class_weights)
        for each in (NUMPY, backend)
    ]
    shaken = replicas[0].model.vector + 0.3 * np.random.default_rng(5).standard_normal(replicas[0].model.vector.shape)
    for replica in replicas:
        replica.model.vector[...] = shaken
    return replicas
