"""Training throughput in Keras mode against Keras with Horovod's tensor operations, and NumPy mode, in one job.

Both sides of Keras train the same model on the same TensorFlow, on one thread a rank. The other side does what a
script with Horovod does: a compiled train step whose optimizer sums the gradients by one `grouped_allreduce`. With
`--comm mpi4py` one `MPI_Allreduce` within a `numpy_function` stands in for it, where Horovod is not built.

    mpirun -n 2 python -m benchmarks.keras_mode
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.hpcnn_side import hpcnn_steps
from benchmarks.problem import BATCH, NETWORKS, SAMPLES, make_data
from benchmarks.report import Report, make_parser
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.backends.choice import choose_backend
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.job.load import load_job

OURS, THEIRS, NUMPY_MODE = "hpcnn, Keras mode", "Keras and Horovod", "hpcnn, NumPy mode"
Reduce = Callable[[list[Any]], list[Any]]
"""``gradients -> means over the ranks``, within a graph."""


def by_horovod(comm: Communicator) -> Reduce:
    """Return Horovod's sum, as its own optimizers use it."""
    from hpcnn.comm.exchange.horovod_exchange import connect_horovod

    connect_horovod(comm)
    import horovod.tensorflow as hvd

    return lambda gradients: hvd.grouped_allreduce(gradients, op=hvd.Average)


def by_mpi4py(comm: Communicator) -> Reduce:
    """Return one `MPI_Allreduce` of all gradients, put into the graph as a NumPy function."""
    import tensorflow as tf
    from mpi4py import MPI

    def mean(flat: Any) -> Any:
        total = np.empty_like(flat)
        MPI.COMM_WORLD.Allreduce(flat, total)
        return total / np.float32(comm.size)

    def reduce(gradients: list[Any]) -> list[Any]:
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0)
        summed = tf.numpy_function(mean, [flat], tf.float32)
        parts = tf.split(summed, [gradient.shape.num_elements() for gradient in gradients])
        return [tf.reshape(part, gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]

    return reduce


def keras_steps(widths: tuple[int, ...], comm: Communicator, reduce: Reduce) -> Iterator[None]:
    """Train with Keras's own optimizer and a compiled step for ever."""
    import keras
    import tensorflow as tf

    layers = [keras.layers.Dense(width, activation="relu") for width in widths[1:-1]]
    model = keras.Sequential([keras.Input(widths[:1]), *layers, keras.layers.Dense(widths[-1])])
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    criterion = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = criterion(y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(reduce(gradients) if comm.size > 1 else gradients, model.trainable_variables)

    x, y = make_data(widths)
    with _as_users_have_it():
        step(tf.constant(x[:BATCH]), tf.constant(y[:BATCH]))
    random = np.random.default_rng(comm.rank)
    while True:
        order = random.permutation(SAMPLES)[: SAMPLES // comm.size // BATCH * BATCH]
        for start, stop in pairwise(range(0, len(order) + 1, BATCH)):
            chosen = order[start:stop]
            step(tf.constant(x[chosen]), tf.constant(y[chosen]))
            yield


@contextmanager
def _as_users_have_it() -> Iterator[None]:
    """Trace without deterministic operations, some of which are slower."""
    import tensorflow as tf
    from tensorflow.python.framework.config import disable_op_determinism

    disable_op_determinism()
    yield
    tf.config.experimental.enable_op_determinism()


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    backend = choose_backend(comm)(load_job(overrides=["backend=keras"]).job)
    reduce = {"horovod": by_horovod, "mpi4py": by_mpi4py}[arguments.comm](comm)
    other = THEIRS if arguments.comm == "horovod" else "Keras and MPI_Allreduce"
    settings = {"batch a rank": BATCH, "other side": arguments.comm, **backend.facts}
    report = Report(comm, settings, arguments.json)
    for name in arguments.networks:
        widths = NETWORKS[name]
        runners = [
            Runner(OURS, hpcnn_steps(widths, comm, backend=backend)),
            Runner(other, keras_steps(widths, comm, reduce)),
            Runner(NUMPY_MODE, hpcnn_steps(widths, comm)),
        ]
        figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
        measured = rates(figures, dict.fromkeys(figures, BATCH * comm.size))
        compared = {f"ratio {OURS} / {other}": ratios(measured[OURS], measured[other])}
        compared |= {
            f"ratio {NUMPY_MODE} / {side}": ratios(measured[NUMPY_MODE], measured[side]) for side in (OURS, other)
        }
        report.add(name, measured, "samples/s", compared)
    report.write()
    return 0


def main() -> int:
    parser = make_parser(
        "keras_mode", "Compares Keras mode with Keras and Horovod, and NumPy mode.", ranks=2, rounds=15
    )
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    parser.add_argument("--comm", choices=("horovod", "mpi4py"), default="horovod", help="what sums on the other side")
    parser.add_argument(
        "--networks", nargs="+", choices=tuple(NETWORKS), default=["784-32-10"], help="which; 784-32-10"
    )
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
