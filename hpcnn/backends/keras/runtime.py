"""TensorFlow and Keras, imported and set so that results do not depend on threads, or on what ran before."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

from hpcnn.errors import HpcnnError, MissingExtraError

ALONE = threading.RLock()
"""Held while models are built, traced or saved: Keras's settings are those of the process, not of a thread."""
KERAS_BACKEND = "KERAS_BACKEND"
"""Environment variable: what Keras computes with."""
_DEFAULTS = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
"""Fewer messages; and sums in an order that does not depend on what oneDNN makes of the processor."""


def start_tensorflow(local_rank: int) -> None:
    """Import TensorFlow and Keras: deterministic operations, one thread a rank, one GPU a rank where there are any.

    The bits of Eigen's sums depend on the number of threads, so ranks are what uses more cores. A GPU is taken by
    `local_rank`, and its memory as it is needed, so that ranks may share one. Where TensorFlow computes already, its
    threads and devices stay as they are.

    Raises:
        MissingExtraError: TensorFlow is not installed.
        HpcnnError: Keras is older than Keras 3, or works with another library than TensorFlow.
    """
    asked = os.environ.setdefault(KERAS_BACKEND, "tensorflow")
    if asked != "tensorflow":
        _refuse(asked)
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        import keras
        import tensorflow as tf
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in ("keras", "tensorflow"):
            raise
        raise MissingExtraError(package, "keras", 'backend = "keras"') from None
    if int(keras.__version__.partition(".")[0]) < 3:
        raise HpcnnError(f'backend = "keras" needs Keras 3, but found {keras.__version__}: pip install "keras>=3"')
    if keras.backend.backend() != "tensorflow":  # imported before by somebody else
        _refuse(keras.backend.backend())
    with suppress(RuntimeError):  # it computes already
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    with suppress(RuntimeError):
        _take_gpu(tf, local_rank)


def _refuse(backend: str) -> None:
    raise HpcnnError(
        f'backend = "keras" computes with TensorFlow, but Keras is set to {backend!r}: '
        f"leave {KERAS_BACKEND} unset, or set it to tensorflow"
    )


def _take_gpu(tf: Any, local_rank: int) -> None:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        own = gpus[local_rank % len(gpus)]
        tf.config.set_visible_devices(own, "GPU")
        tf.config.experimental.set_memory_growth(own, True)


def runtime_facts() -> dict[str, Any]:
    """Return what decides the bits in addition to the job and the machine."""
    import keras
    import tensorflow as tf

    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "tensorflow_threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "gpus": len(tf.config.get_visible_devices("GPU")),
    }
