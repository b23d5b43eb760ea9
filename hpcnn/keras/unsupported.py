"""Names of Horovod that hpcnn does not have, and what to use instead."""

from __future__ import annotations

from collections.abc import Iterable

from hpcnn.errors import HpcnnError, nearest

_INSTEAD = {
    "Adasum": "Use op=hvd.Average, with a learning rate that grows with the number of ranks.",
    "data": "Give each rank its own part: dataset.shard(hvd.size(), hvd.rank()).",
    "elastic": "Save checkpoints and start the job again; hpcnn's own jobs continue without lost ranks "
    "(run.on_rank_loss = 'continue').",
    "mxnet": "Write the model in Keras.",
    "ray": "Start the script by mpirun or srun.",
    "run": "Start the script by mpirun or srun.",
    "runner": "Start the script by mpirun or srun, and ask hvd.rank() and hvd.size().",
    "spark": "Start the script by mpirun or srun.",
    "start_timeline": "Use the TensorBoard callback's profiler.",
    "stop_timeline": "Use the TensorBoard callback's profiler.",
    "torch": "Write the model in Keras, which also runs on PyTorch (KERAS_BACKEND=torch).",
    "SyncBatchNormalization": "Use keras.layers.BatchNormalization, which takes the statistics of each rank's batch, "
    "or LayerNormalization.",
}


class UnsupportedNameError(HpcnnError, AttributeError):
    """A name of Horovod that hpcnn does not have."""


def unsupported_name(name: str, known: Iterable[str]) -> UnsupportedNameError:
    """Return the error for an unknown name."""
    return UnsupportedNameError(
        f"hpcnn.keras has no {name!r}.{' ' + _INSTEAD[name] if name in _INSTEAD else nearest(name, known)}"
    )
