"""Scripts that go wrong, one for each argument: how the job ends is what the test looks at."""

from __future__ import annotations

import sys

import hpcnn.keras as hvd


def raises() -> None:
    """Fail on rank 1, while the others wait for it."""
    if hvd.rank() == 1:
        raise ZeroDivisionError("an error of the script's own")
    hvd.barrier()


def leaves() -> None:
    """Take fewer steps on rank 1."""
    for _ in range(2 - hvd.rank()):
        hvd.barrier()


def exits() -> None:
    """Exit on rank 1, early but in good order."""
    if hvd.rank() == 1:
        sys.exit(0)
    hvd.barrier()


def misuses() -> None:
    """Make the same mistake on all ranks."""
    hvd.broadcast_object(None, root_rank=7)


def disagrees_in_a_graph() -> None:
    """Exchange arrays of other shapes, within a graph of TensorFlow, which has errors of its own."""
    import tensorflow as tf

    own = tf.zeros(3 + hvd.rank())
    tf.function(lambda: hvd.allreduce(own))()


def fails_in_a_thread() -> None:
    """Fail in a thread of rank 1."""
    import threading

    def work() -> None:
        raise ZeroDivisionError("in a thread")

    if hvd.rank() == 1:
        thread = threading.Thread(target=work, name="loader")
        thread.start()
        thread.join()
    hvd.barrier()


if __name__ == "__main__":
    hvd.init()
    globals()[sys.argv[1]]()
