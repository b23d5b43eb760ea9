"""Runs the example scripts one after the other on the ranks of mpirun; rank 0 keeps the weights in $OUT.

With the argument ``collectives``, those are checked afterwards, since TensorFlow takes seconds to import.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hpcnn.keras as hvd
from hpcnn.errors import DriftError
from tests.keras.scripts import collectives, digits_advanced, digits_fit, digits_loop


def fingerprint(model: keras.Model) -> str:
    return hashlib.sha256(b"".join(np.asarray(weight).tobytes() for weight in model.weights)).hexdigest()


def run(module, out: Path) -> None:
    model = module.main()
    everyone = hvd.allgather_object(fingerprint(model))
    assert set(everyone) == {everyone[0]}, f"{module.__name__}: the ranks end with other weights: {everyone}"
    if hvd.rank() == 0:
        name = module.__name__.rpartition(".")[2]
        np.savez(out / f"{name}-{hvd.size()}.npz", *[np.asarray(weight) for weight in model.weights])
    if module is digits_loop:
        assert fingerprint(module.main()) == everyone[0], "a repeated run gives other weights"
    if module is digits_advanced:
        check_history(model.history)


def check_history(history: keras.callbacks.History) -> None:
    """Check that all ranks report the same, and the learning rates."""
    everyone = hvd.allgather_object(history.history)
    assert all(each == everyone[0] for each in everyone)
    warm = [digits_advanced.BASE_RATE * (epoch / 2 * (hvd.size() - 1) + 1) for epoch in (1, 2)]
    last = digits_advanced.BASE_RATE * hvd.size()
    np.testing.assert_allclose(history.history["lr"], [*warm, last, last * 0.1], rtol=1e-6)


def check_without_the_optimizer() -> None:
    """Train as before but for the wrapper: the ranks must drift apart, and be told."""
    wrapper, hvd.DistributedOptimizer = hvd.DistributedOptimizer, lambda optimizer: optimizer
    try:
        with pytest.raises(DriftError, match=r"after epoch 1 the weights of rank 1 differ .* Wrap the optimizer"):
            digits_fit.main()
    finally:
        hvd.DistributedOptimizer = wrapper


def main() -> None:
    out = Path(os.environ["OUT"])
    for module in (digits_fit, digits_advanced, digits_loop):
        run(module, out)
    if hvd.size() > 1:
        check_without_the_optimizer()
    if hvd.rank() == 0:
        sys.stdout.write(f"the examples ran on {hvd.size()} ranks\n")
    if sys.argv[1:] == ["collectives"]:
        hvd.shutdown()
        collectives.main()


if __name__ == "__main__":
    main()
