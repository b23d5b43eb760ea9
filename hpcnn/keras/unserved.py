"""What scripts for Horovod may name and hpcnn has not, and what to use in its place."""

from __future__ import annotations

from collections.abc import Iterable

from hpcnn.errors import HpcnnError, nearest

_INSTEAD = {
    "Adasum": "Use op=hvd.Average, with a learning rate that grows with the number of ranks.",
    "data": "Give each rank its own part: dataset.shard(hvd.size(), hvd.rank()).",
    "elastic": "Save checkpoints and start the job again; hpcnn's own jobs go on without lost ranks "
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


class UnservedError(HpcnnError, AttributeError):
    """A name of Horovod's that hpcnn has not."""


def unserved(name: str, known: Iterable[str]) -> UnservedError:
    """Return the error for a name that there is not."""
    return UnservedError(
        f"hpcnn.keras has no {name!r}.{' ' + _INSTEAD[name] if name in _INSTEAD else nearest(name, known)}"
    )
