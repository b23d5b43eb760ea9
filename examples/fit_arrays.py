"""Train on arrays, as with scikit-learn, then predict and evaluate.

Run it by ``python examples/fit_arrays.py``,
or by ``mpirun -n 4 python examples/fit_arrays.py``: the same weights, bit for bit.
"""

from __future__ import annotations

import hpcnn

JOB = {
    "name": "fit_arrays",
    "data": {"scale": "standardize", "scale_over": "all", "validation_fraction": 0.2},
    "model": {
        "layers": [
            {"type": "flatten"},
            {"type": "dense", "units": 64, "activation": "relu"},
            {"type": "dropout", "rate": 0.2},
            {"type": "dense", "units": 10, "activation": "softmax"},
        ]
    },
    "loss": {"name": "sparse_categorical_crossentropy"},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "train": {"epochs": 8, "batch_size": 32, "shards": 8, "metrics": ["accuracy"], "early_stopping": {"patience": 3}},
}
"""A job as a job file holds it, without the source of the data."""


def main() -> None:
    """Train, and print the result on rank 0."""
    x, y = hpcnn.load_digits()  # any arrays work: x (n, ...), y (n, ...)
    x, x_test, y, y_test = x[:1500], x[1500:], y[:1500], y[1500:]

    fitted = hpcnn.fit(JOB, data=(x, y))  # on every rank, with the same arrays

    if hpcnn.connect().rank == 0:
        print(f"{len(fitted.history)} epochs, results in {fitted.folder}")
        print(f"accuracy on new samples: {fitted.evaluate(x_test, y_test)['accuracy']:.3f}")
        print(f"the first of them read as {fitted.predict(x_test[:10]).argmax(axis=1)}, and are {y_test[:10]}")


if __name__ == "__main__":
    main()
