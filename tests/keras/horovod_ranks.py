"""What the ranks of a test do with Horovod: sums of known numbers, a job, a training with Keras. Rank 0 prints JSON."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator

JOB = Path(__file__).parents[2] / "jobs" / "digits_mlp.toml"
LARGE = 2.0**40
CASES = [(8, 1000, "float32", 5), (7, 100_003, "float32", 3), (12, 5, "float64", 1), (5, 33, "float32", 0)]
SAMPLES, FEATURES, CLASSES, STEPS = 48, 12, 4, 20


def sums(comm: Communicator) -> list[dict[str, Any]]:
    """Return how far the sums of some exchanges are from NumPy's, relative to the sum of the absolute values."""
    from hpcnn.comm.exchange.horovod_exchange import horovod_exchange

    found = []
    for shards, length, dtype, stats in CASES:
        exchange = horovod_exchange(comm, shards, length, dtype, stats)
        for turn in range(3):
            leaves = [np.random.default_rng([turn, leaf]).standard_normal(length + stats) for leaf in range(shards)]
            for each in exchange.contributions:
                lo, hi = each.subtree
                total = np.sum(leaves[lo:hi], axis=0)
                each.vector[...], each.stats[...] = total[:length], LARGE * (hi - lo) + total[length:]
            if turn == 1:
                exchange.start(lambda: True)
                exchange.ready(0)
                assert exchange.finish() is True
            else:
                exchange.allreduce()
            exact, scale = np.sum(leaves, axis=0), np.abs(leaves).sum(axis=0)
            hashes = comm.allgather(hashlib.sha256(exchange.vector.tobytes() + exchange.stats.tobytes()).hexdigest())
            found.append(
                {
                    "dtype": dtype,
                    "same": exchange.vector.dtype == dtype and exchange.vector.shape == (length,),
                    "vector": float(np.max(np.abs(exchange.vector - exact[:length]) / scale[:length])),
                    "stats": float(np.max(np.abs(exchange.stats - (shards * LARGE + exact[length:])), initial=0.0)),
                    "results": len(set(hashes)),
                }
            )
    return found


def several_subtrees(comm: Communicator) -> list[float]:
    """Return the sums of ranks that own several subtrees each, as the second of three does, over the ranks."""
    from hpcnn.comm.exchange.horovod_exchange import HorovodExchange

    exchange = HorovodExchange(1, 3, 8, 10, "float32", 2)
    assert len(exchange.contributions) == 2
    for value, each in enumerate(exchange.contributions, 1):
        each.vector[...], each.stats[...] = value, 10 * value
    exchange.allreduce()
    return [float(total) / comm.size for total in (*exchange.vector, *exchange.stats)]


def train(samples: slice, *, distributed: bool) -> np.ndarray:
    """Return the weights of a small network after some steps on these samples of each batch.

    Distributed: with gradients averaged over all ranks.
    """
    import keras
    from horovod import tensorflow as hvd

    class Distributed(keras.optimizers.SGD):  # type: ignore[misc]
        def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
            return super().apply(hvd.grouped_allreduce(list(grads), op=hvd.Average), trainable_variables)

    random = np.random.default_rng(0)
    x = random.standard_normal((STEPS, SAMPLES, FEATURES)).astype(np.float32)[:, samples]
    y = random.integers(0, CLASSES, (STEPS, SAMPLES))[:, samples]
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(CLASSES)]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers])
    optimizer = Distributed if distributed else keras.optimizers.SGD
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(0.1, momentum=0.9), loss, jit_compile=False)
    model.fit(x.reshape(-1, FEATURES), y.reshape(-1), batch_size=x.shape[1], epochs=1, shuffle=False, verbose=0)
    return np.concatenate([np.ravel(value) for value in model.get_weights()])


def train_job(comm: Communicator, out: Path, how: str) -> None:
    """Train the digits, with gradients that are exchanged by ``mpi`` or ``horovod``."""
    from hpcnn.backends.keras.backend import KerasBackend
    from hpcnn.job.load import load_job
    from hpcnn.runs.session import train

    settings = ("backend=keras", f"keras.comm={how}", "train.epochs=2", "train.shards=3", "run.display=quiet")
    job = load_job(JOB, settings)
    train(job, comm, out=out / how, resume="never", backend=KerasBackend.start(comm.local_rank))


def study(comm: Communicator) -> dict[str, Any]:
    """Return what a scaling study finds of Horovod, whose ranks must end with equal weights."""
    from hpcnn.job.load import load_job
    from hpcnn.runs.build import build_training
    from hpcnn.tools.scaling.measure import take_turns
    from hpcnn.tools.scaling.names import HOROVOD
    from hpcnn.tools.scaling.sides import attempt, horovod_side

    job = load_job(JOB)
    training, left_out = build_training(job.job, job.base, comm), dict[str, str]()
    sides = attempt(lambda: horovod_side(training, comm), left_out, HOROVOD)
    return take_turns(comm, sides, 1) | left_out


def report(comm: Communicator, out: Path) -> int:
    """Do everything, train a job into the folder `out`, and print what came of it."""
    import tensorflow as tf

    for how in ("horovod",) if comm.size > 1 else ("mpi", "horovod"):
        train_job(comm, out, how)

    added, several, measured = sums(comm), several_subtrees(comm), study(comm)
    own = slice(SAMPLES * comm.rank // comm.size, SAMPLES * (comm.rank + 1) // comm.size)
    together, alone = train(own, distributed=True), train(own, distributed=False)
    single = train(slice(None), distributed=False)
    everyone, apart = comm.allgather(together), comm.allgather(alone)
    if comm.rank == 0:
        found = {
            "tensorflow": tf.__version__,
            "sums": added,
            "several nodes": several,
            "study": measured,
            "between ranks": float(np.max([np.abs(one - together) for one in everyone])),
            "to one process": float(np.abs(together - single).max()),
            "without": float(np.max([np.abs(one - alone) for one in apart])),
        }
        sys.stdout.write(json.dumps(found) + "\n")
    return 0


def fail_on_last(comm: Communicator) -> int:
    """Raise on the last rank while the others wait for its numbers."""
    from hpcnn.comm.exchange.horovod_exchange import horovod_exchange

    exchange = horovod_exchange(comm, comm.size, 10, "float32", 1)
    exchange.allreduce()
    if comm.rank == comm.size - 1:
        time.sleep(0.5)
        sys.stdout.write(f"{time.time()}\n")
        sys.stdout.flush()
        raise RuntimeError("out of luck")
    exchange.allreduce()
    return 0


if __name__ == "__main__":
    bodies = {"report": lambda comm: report(comm, Path(sys.argv[2])), "fail": fail_on_last}
    sys.exit(run_parallel(bodies[sys.argv[1]]))
